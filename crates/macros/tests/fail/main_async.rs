#[crucial::main]
async fn main() {}
