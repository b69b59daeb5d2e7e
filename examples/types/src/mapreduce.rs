//! A map-reduce (§6.3.1 of the paper): the sum of the results.

mod partial;

use std::task::Poll;

use crucial::shared;
use serde::{Deserialize, Serialize};

pub use partial::Partial;

/// Adds up results; the sum is available after the last one.
#[derive(Serialize, Deserialize)]
pub struct Total {
    /// The number of missing results.
    pub missing: u64,
    /// The sum of the present results.
    pub sum: Partial,
}

#[shared]
impl Total {
    /// Adds the result of a task.
    pub fn add(&mut self, partial: Partial) {
        self.sum.add(partial);
        self.missing -= 1;
    }

    /// Waits for the sum of all results.
    pub fn result(&self) -> Poll<Partial> {
        match self.missing {
            0 => Poll::Ready(self.sum),
            _ => Poll::Pending,
        }
    }
}
