//! The shared types of a program.

use crucial::shared;
use serde::{Deserialize, Serialize};

/// How many were seen, and the largest.
#[derive(Default, Serialize, Deserialize)]
pub struct Tally {
    seen: u64,
    largest: u64,
}

#[shared]
impl Tally {
    /// One more.
    pub fn add(&mut self, value: u64) {
        self.seen += 1;
        self.largest = self.largest.max(value);
    }

    /// How many, and the largest.
    pub fn get(&self) -> (u64, u64) {
        (self.seen, self.largest)
    }
}
