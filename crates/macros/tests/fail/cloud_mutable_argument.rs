use crucial::cloud;

#[cloud]
fn work(text: &mut str) {
    text.make_ascii_uppercase();
}

fn main() {}
