#[crucial::main]
struct Main;

fn main() {}
