use crucial::cloud;

#[cloud(retries = 2)]
fn work() {}

fn main() {}
