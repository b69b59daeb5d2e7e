#[crucial::main(threads = 2)]
fn main() {}

// Errors: 2
