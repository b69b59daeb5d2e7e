//! The recorded events. The std-thread version uses them, too.

use serde::{Deserialize, Serialize};

/// A kind of helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Reindeer deliver toys.
    Reindeer,
    /// Elves make toys, and consult Santa.
    Elf,
}

/// An event: a helper took part in a delivery or consultation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The helper's kind.
    pub kind: Kind,
    /// The helper's number.
    pub helper: u64,
    /// The number of the delivery or consultation.
    pub round: u64,
}
