#[crucial::main]
async fn main() {}

// Errors: 2
