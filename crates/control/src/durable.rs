//! How far a voter's journal is on disk. The consensus library goes on when its records are handed over to the journal's
//! thread; whatever another server or the server's own member learns of them waits here until they are on disk.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use tokio::sync::watch;

use crate::journal::JournalError;
use crate::writer::Written;

/// What was handed over to the journal's thread, and what of it is on disk.
pub(crate) struct Durable {
    /// The number of the last write that was handed over.
    handed: u64,
    state: watch::Sender<State>,
    /// The log entries that were not on disk when they were handed over: index, and number of the write.
    entries: BTreeMap<u64, u64>,
}

#[derive(Default)]
struct State {
    /// The writes up to this one are on disk.
    written: u64,
    /// Why the later ones are not, and will not be.
    failed: Option<String>,
}

/// A write that somebody waits for.
pub(crate) struct Pending {
    number: u64,
    state: watch::Receiver<State>,
}

/// Tells how a write ended.
struct Announcement {
    number: u64,
    state: watch::Sender<State>,
    is_made: bool,
}

impl Durable {
    pub fn new() -> Durable {
        Durable {
            handed: 0,
            state: watch::channel(State::default()).0,
            entries: BTreeMap::new(),
        }
    }

    /// Begins a write: what to pass to the writer.
    pub fn begin(&mut self) -> Written {
        self.handed += 1;
        let announcement = Announcement {
            number: self.handed,
            state: self.state.clone(),
            is_made: false,
        };
        Box::new(move |result| announcement.make(result))
    }

    /// These log entries are part of the last write.
    pub fn add_entries(&mut self, indices: impl Iterator<Item = u64>) {
        let written = self.state.borrow().written;
        self.entries.retain(|_, number| *number > written);
        self.entries
            .extend(indices.map(|index| (index, self.handed)));
    }

    /// The log entries from this index on are deleted.
    pub fn truncate(&mut self, index: u64) {
        self.entries.split_off(&index);
    }

    /// All that was handed over so far.
    pub fn all(&self) -> Pending {
        self.write(self.handed)
    }

    /// The log up to this entry.
    pub fn entry(&self, index: u64) -> Pending {
        self.write(self.entries.get(&index).copied().unwrap_or_default())
    }

    fn write(&self, number: u64) -> Pending {
        Pending {
            number,
            state: self.state.subscribe(),
        }
    }

    /// Whether the log up to this entry is on disk.
    pub fn has_entry(&self, index: u64) -> bool {
        let number = self.entries.get(&index).copied().unwrap_or_default();
        self.state.borrow().written >= number
    }

    /// Whether something is not on disk yet.
    pub fn is_behind(&self) -> bool {
        self.state.borrow().written < self.handed
    }

    /// Fails if nothing more comes on disk.
    pub fn check(&self) -> io::Result<()> {
        match &self.state.borrow().failed {
            Some(why) => Err(io::Error::other(why.clone())),
            None => Ok(()),
        }
    }
}

impl Pending {
    /// Waits until the write is on disk.
    ///
    /// # Errors
    ///
    /// The reason why it will not be.
    pub async fn written(mut self) -> io::Result<()> {
        let number = self.number;
        let ended = |state: &State| state.written >= number || state.failed.is_some();
        match self.state.wait_for(ended).await {
            Ok(state) if state.written >= number => Ok(()),
            Ok(state) => Err(io::Error::other(state.failed.clone().unwrap_or_default())),
            Err(_) => Err(io::Error::other("the journal is closed")),
        }
    }

    /// Waits until it is known that nothing more comes on disk, and returns the reason.
    pub async fn failed(mut self) -> String {
        match self.state.wait_for(|state| state.failed.is_some()).await {
            Ok(state) => state.failed.clone().unwrap_or_default(),
            Err(_) => "the journal is closed".to_owned(),
        }
    }
}

impl Announcement {
    fn make(mut self, result: Result<(), Arc<JournalError>>) {
        self.is_made = true;
        self.state.send_modify(|state| match result {
            Ok(()) => state.written = self.number,
            Err(error) => state.failed = Some(error.to_string()),
        });
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        if !self.is_made {
            let why = "the journal's thread has ended".to_owned();
            self.state.send_modify(|state| state.failed = Some(why));
        }
    }
}

#[cfg(test)]
mod tests;
