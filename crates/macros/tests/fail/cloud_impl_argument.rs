use crucial::cloud;

#[cloud]
fn work(n: impl Into<u64>) -> u64 {
    n.into()
}

fn main() {}
