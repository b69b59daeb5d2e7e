use crucial::cloud;

#[cloud]
unsafe fn work(n: u64) -> u64 {
    n
}

fn main() {}
