#[crucial::main]
fn main(n: u64) {}
