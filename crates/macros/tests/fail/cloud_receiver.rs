use crucial::cloud;

#[cloud]
fn work(&self) {}

fn main() {}
