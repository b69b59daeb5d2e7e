use crucial::cloud;

#[cloud]
fn work<T>(n: T) -> T {
    n
}

fn main() {}
