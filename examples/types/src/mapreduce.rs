//! A map-reduce (§6.3.1 of the paper): the sum of its results.

mod partial;

use std::task::Poll;

use crucial::shared;
use serde::{Deserialize, Serialize};

pub use partial::Partial;

/// Adds up results, and has the sum when all are there.
#[derive(Serialize, Deserialize)]
pub struct Total {
    /// Results that are not there yet.
    pub missing: u64,
    /// The sum of the others.
    pub sum: Partial,
}

#[shared]
impl Total {
    /// A task has its result.
    pub fn add(&mut self, partial: Partial) {
        self.sum.add(partial);
        self.missing -= 1;
    }

    /// The sum, when all are there.
    pub fn result(&self) -> Poll<Partial> {
        match self.missing {
            0 => Poll::Ready(self.sum),
            _ => Poll::Pending,
        }
    }
}
