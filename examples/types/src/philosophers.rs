//! The dining philosophers: the table.

mod seats;

use crucial::shared;
use serde::{Deserialize, Serialize};

pub use seats::Seats;

/// The table, which detects neighbours that eat at the same time.
#[derive(Serialize, Deserialize)]
pub struct Table {
    /// The philosophers at the table.
    pub seats: Seats,
}

#[shared]
impl Table {
    /// Records that a philosopher begins to eat. Panics if a neighbour is eating.
    pub fn begin(&mut self, philosopher: u64) {
        self.seats.begin(philosopher);
    }

    /// Records that a philosopher has eaten.
    pub fn end(&mut self, philosopher: u64) {
        self.seats.end(philosopher);
    }

    /// The number of meals of each philosopher.
    pub fn meals(&self) -> Vec<u64> {
        self.seats.meals()
    }
}
