//! The dining philosophers: their table.

mod seats;

use crucial::shared;
use serde::{Deserialize, Serialize};

pub use seats::Seats;

/// The table, which sees when neighbours eat together.
#[derive(Serialize, Deserialize)]
pub struct Table {
    /// Who sits there.
    pub seats: Seats,
}

#[shared]
impl Table {
    /// A philosopher begins to eat; a panic if a neighbour does.
    pub fn begin(&mut self, philosopher: usize) {
        self.seats.begin(philosopher);
    }

    /// A philosopher has eaten.
    pub fn end(&mut self, philosopher: usize) {
        self.seats.end(philosopher);
    }

    /// How often each has eaten.
    pub fn meals(&self) -> Vec<u64> {
        self.seats.meals()
    }
}
