use crucial::cloud;

#[cloud]
fn work(#[cfg(target_os = "none")] n: u64) {}

fn main() {}
