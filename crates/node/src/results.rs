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
    /// panicked halfway. A call that was not executed, or was taken back as too many wait, is no reason to send the object.
    pub(crate) fn may_differ(&self) -> bool {
        let differs = |error: &Error| match error {
            Error::Panicked { .. } => true,
            Error::LimitExceeded { limit, .. } => {
                !error.is_lack_of_room() && limit != "parked_calls_max"
            }
            _ => false,
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crucial_object::{Sequence, SessionId};

    fn may_differ(error: Error) -> bool {
        let mut results = Results::default();
        let call = CallId {
            session: SessionId(1),
            sequence: Sequence(1),
        };
        results.reply(call, Err(&error));
        results.may_differ()
    }

    fn limit(name: &str) -> Error {
        Error::LimitExceeded {
            limit: name.to_owned(),
            max: 1,
            detail: String::new(),
        }
    }

    /// Where every refused call sends its object to all backups, overload makes more overload.
    #[test]
    fn only_methods_that_ran_and_were_cut_short_send_the_object() {
        assert!(may_differ(limit("method_time_max")));
        assert!(may_differ(limit("instance_bytes_max")));
        assert!(!may_differ(limit("instances_max")));
        assert!(!may_differ(limit("instances_bytes_max")));
        assert!(!may_differ(limit("parked_calls_max")));
        assert!(!may_differ(Error::Cancelled));
    }
}
