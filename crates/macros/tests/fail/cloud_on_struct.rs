use crucial::cloud;

#[cloud]
struct Work;

fn main() {}
