#[crucial::main]
fn main(n: u64) {}

// Errors: 2
