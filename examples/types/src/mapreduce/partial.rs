//! Results; std threads use them as they are.

use serde::{Deserialize, Serialize};

/// The result of a task, or of some together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Partial {
    /// Points inside the circle.
    pub inside: i64,
    /// When the last of the tasks had its result, by the clock of its machine.
    pub ended_us: u64,
}

impl Partial {
    /// Adds the result of others.
    pub fn add(&mut self, other: Partial) {
        self.inside += other.inside;
        self.ended_us = self.ended_us.max(other.ended_us);
    }
}
