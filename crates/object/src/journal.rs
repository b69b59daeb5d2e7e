//! The record of what an exactly-once thread has done.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, Result, shared};

/// The record of an exactly-once thread: its calls in order, so that another attempt can be held to them, and
/// the times that it was told. (The results are with the objects.)
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Journal {
    entries: Vec<JournalEntry>,
}

/// One call of an exactly-once thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// The method that was called, for people.
    pub what: String,
    /// Of all that makes the call the same.
    pub fingerprint: u64,
    /// The time that the thread was told, if it asked for that.
    pub time: Option<Duration>,
}

impl JournalEntry {
    /// An entry for a call of `what`, which is the same if `parts` are.
    pub fn new(what: String, parts: &[&[u8]]) -> JournalEntry {
        let mut hash = Sha256::new();
        for part in parts {
            // The length keeps ("ab", "c") and ("a", "bc") apart.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let mut first = [0; 8];
        first.copy_from_slice(&hash.finalize()[..8]);
        JournalEntry {
            what,
            fingerprint: u64::from_le_bytes(first),
            time: None,
        }
    }
}

#[shared(name = "crucial::Journal", crate = crate)]
impl Journal {
    /// Appends the entry at `position`, from 0.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] if it is not the next.
    #[fallible]
    pub fn append(&mut self, position: u64, entry: JournalEntry) -> Result<()> {
        let len = self.entries.len() as u64;
        if position != len {
            return Err(Error::OutOfBounds {
                index: position,
                len,
            });
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Up to `count` entries from `start` on.
    pub fn range(&self, start: u64, count: u64) -> Vec<JournalEntry> {
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.entries
            .iter()
            .skip(start)
            .take(count)
            .cloned()
            .collect()
    }

    /// How many entries there are.
    pub fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
