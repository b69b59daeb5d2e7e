//! The results of one job, until they go out.

use std::ops::Range;

use crate::cell::{CallId, Replies};
use crate::replication::Checksum;

use crucial_object::{Error, Result};

/// Results of one job, in one buffer.
#[derive(Debug, Default)]
pub struct Results {
    list: Vec<(CallId, Result<Range<usize>>)>,
    bytes: Vec<u8>,
    /// Where methods leave their encoded results.
    pub(crate) scratch: Vec<u8>,
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
    pub(crate) fn iter(&self) -> impl Iterator<Item = (CallId, Result<&[u8], &Error>)> {
        self.list.iter().map(|(call, result)| {
            let result = result.as_ref().map(|range| &self.bytes[range.clone()]);
            (*call, result)
        })
    }

    pub(crate) fn checksum(&self) -> u64 {
        let mut checksum = Checksum::default();
        for (call, result) in self.iter() {
            checksum.reply(call, result);
        }
        checksum.value()
    }

    /// Whether other servers might come to another state: a limit of time or memory may have ended a method, or the method
    /// panicked halfway.
    pub(crate) fn may_differ(&self) -> bool {
        let differs =
            |error: &Error| matches!(error, Error::Panicked { .. } | Error::LimitExceeded { .. });
        self.list
            .iter()
            .any(|(_, result)| result.as_ref().is_err_and(differs))
    }

    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.bytes.clear();
        self.bytes.shrink_to(BYTES_KEPT_MAX);
    }
}
