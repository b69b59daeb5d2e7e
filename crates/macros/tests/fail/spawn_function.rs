use crucial::{cloud, thread};

#[cloud]
fn work(n: u64) -> u64 {
    n
}

fn main() {
    thread::spawn(work);
}
