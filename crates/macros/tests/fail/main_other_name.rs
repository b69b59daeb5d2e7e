#[crucial::main]
fn start() {}

fn main() {}
