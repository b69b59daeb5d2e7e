use crucial::cloud;

#[cloud]
extern "C" fn work(n: u64, rest: ...) {}

fn main() {}
