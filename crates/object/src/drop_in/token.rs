//! The token of a parked thread.

use std::task::Poll;

use serde::{Deserialize, Serialize};

use crate::shared;

/// What `unpark` gives to a thread, and `park` takes: one at most.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Token {
    is_there: bool,
}

#[shared(name = "crucial::Token", crate = crate)]
impl Token {
    /// Gives the thread the token, if it has none.
    pub fn give(&mut self) {
        self.is_there = true;
    }

    /// Whether the thread has the token.
    pub fn is_set(&self) -> bool {
        self.is_there
    }

    /// Takes the token when it is there.
    pub fn take(&mut self) -> Poll<()> {
        match std::mem::take(&mut self.is_there) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}
