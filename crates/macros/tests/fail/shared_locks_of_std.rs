use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::task::Poll;

use crucial::shared;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Thing {
    value: u64,
}

#[shared]
impl Thing {
    fn put(&mut self, counts: Vec<AtomicUsize>) -> Option<Mutex<u64>> {
        let _ = counts;
        Some(Mutex::new(self.value))
    }

    fn take(&self, #[ticket] ticket: &mut Option<Cell<u8>>) -> Poll<()> {
        let _ = ticket;
        Poll::Ready(())
    }
}

fn main() {}

// Errors: 3
