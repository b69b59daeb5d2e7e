use crucial::cloud;

#[cloud]
fn work() -> std::time::Instant {
    std::time::Instant::now()
}

fn main() {}
