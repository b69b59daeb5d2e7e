fn work(n: u64) -> u64 {
    n
}

fn main() {
    crucial::thread::spawn(work(7));
}
