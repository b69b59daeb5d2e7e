//! What happens; std threads use it as it is.

use serde::{Deserialize, Serialize};

/// A kind of helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// They deliver toys.
    Reindeer,
    /// They make toys, and have questions.
    Elf,
}

/// What happened: a helper took part in a delivery or consultation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Who it was.
    pub kind: Kind,
    /// Its number.
    pub helper: u64,
    /// In which delivery or consultation.
    pub round: u64,
}
