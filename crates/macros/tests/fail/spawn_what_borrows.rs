use crucial::std;
use std::thread;

#[crucial::cloud]
fn work(items: &mut [u64]) {
    items.reverse();
}

fn main() {
    let mut items = vec![1, 2, 3];
    // Only a scope waits, and writes back.
    thread::spawn(|| work(&mut items));
}
