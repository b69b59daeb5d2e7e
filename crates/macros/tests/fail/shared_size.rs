#![deny(deprecated)]

use std::num::NonZeroUsize;
use std::task::Poll;

use crucial::sync::AtomicUsize;
use crucial::{Shared, shared};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Thing {
    values: Vec<u64>,
}

#[shared]
impl Thing {
    fn resize(&mut self, len: usize) {
        self.values.resize(len, 0);
    }

    fn find(&self, parts: &[(u8, std::primitive::isize)]) -> Option<NonZeroUsize> {
        NonZeroUsize::new(parts.len())
    }

    fn wait(&self, #[ticket] turn: &mut Option<usize>) -> Poll<()> {
        *turn = Some(1);
        Poll::Ready(())
    }

    /// Neither a handle nor the length of an array is such a number.
    fn count(&mut self, _in: Shared<AtomicUsize>, _of: [u8; 3usize]) {}
}

#[derive(Serialize, Deserialize)]
struct Silent;

#[shared]
#[allow(deprecated)]
impl Silent {
    fn len(&self) -> usize {
        0
    }
}

fn main() {}

// Errors: 4
