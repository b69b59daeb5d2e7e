//! The results of what was done to an object, until they may go out.

use std::ops::Range;

use crucial_cluster::Checksum;
use crucial_core::{CallId, Replies};
use crucial_object::{Error, Result};

/// An answer that waits: for acknowledgements, or a lease.
#[derive(Debug)]
pub(crate) struct Reply {
    pub call: CallId,
    pub result: Result<Vec<u8>>,
}

/// Results of one turn, in one buffer.
#[derive(Default)]
pub(crate) struct Results {
    list: Vec<(CallId, Result<Range<usize>>)>,
    bytes: Vec<u8>,
}

/// A buffer that has held more is given back.
const BYTES_KEPT_MAX: usize = 256 << 10;

impl Replies for Results {
    fn reply(&mut self, call: CallId, result: Result<&[u8], &Error>) {
        let result = result.map_err(Clone::clone).map(|bytes| {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(bytes);
            start..self.bytes.len()
        });
        self.list.push((call, result));
    }
}

impl Results {
    pub fn iter(&self) -> impl Iterator<Item = (CallId, Result<&[u8], &Error>)> {
        self.list.iter().map(|(call, result)| {
            let result = result.as_ref().map(|range| &self.bytes[range.clone()]);
            (*call, result)
        })
    }

    pub fn checksum(&self) -> u64 {
        let mut checksum = Checksum::default();
        for (call, result) in self.iter() {
            checksum.reply(call, result);
        }
        checksum.value()
    }

    /// Whether others can not be relied on to come to the same: a limit of time or memory may have ended a method, or
    /// it panicked, and left who knows what.
    pub fn may_differ(&self) -> bool {
        let differs =
            |error: &Error| matches!(error, Error::Panicked { .. } | Error::LimitExceeded { .. });
        self.list
            .iter()
            .any(|(_, result)| result.as_ref().is_err_and(differs))
    }

    pub fn clear(&mut self) {
        self.list.clear();
        self.bytes.clear();
        self.bytes.shrink_to(BYTES_KEPT_MAX);
    }
}
