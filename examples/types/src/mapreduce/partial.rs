//! Results of tasks. The std-thread version uses them, too.

use serde::{Deserialize, Serialize};

/// The result of one or several tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Partial {
    /// Number of points inside the circle.
    pub inside: i64,
    /// When the last of the tasks ended, by the clock of its machine.
    pub ended_us: u64,
}

impl Partial {
    /// Adds the result of other tasks.
    pub fn add(&mut self, other: Partial) {
        self.inside += other.inside;
        self.ended_us = self.ended_us.max(other.ended_us);
    }
}
