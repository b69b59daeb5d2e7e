use crucial::collections::Queue;
use crucial::sync::{AtomicI64, Barrier, Mutex};
use crucial::{Shared, cloud};

#[cloud]
fn work(
    hits: AtomicI64,
    barrier: &Barrier,
    locks: Vec<Mutex<String>>,
    // A handle in a handle, and what is no lock.
    queue: Shared<Queue<Shared<Mutex<u8>>>>,
    pair: (Shared<AtomicI64>, u8),
) {
    let _ = (hits, barrier, locks, queue, pair);
}

fn main() {}

// Errors: 3
