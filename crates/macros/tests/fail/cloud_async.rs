use crucial::cloud;

#[cloud]
async fn work(n: u64) -> u64 {
    n
}

fn main() {}
