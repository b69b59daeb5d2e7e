use crucial::cloud;

#[cloud]
fn work(n: u64) -> impl Iterator<Item = u64> {
    0..n
}

fn main() {}
