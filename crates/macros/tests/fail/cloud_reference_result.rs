use crucial::cloud;

#[cloud]
fn work(text: &str) -> &str {
    text
}

fn main() {}
