use crucial::cloud;

#[cloud]
fn work((a, b): (u64, u64)) -> u64 {
    a + b
}

fn main() {}
