//! Completion records: an object's memory of the calls that it has executed.
//!
//! A record is kept until its caller says that it has the result. Each call of a session names the
//! lowest sequence that the session still waits for (`acked`): records of the session below that go at
//! once. A session with a call that waits for long says now and then exactly for which calls it waits.
//! Records that are not needed by that go when the table has doubled. So a table is bounded by the calls
//! in flight, and one result per session that has called since the last purge.

use crucial_object::{Error, Sequence, SessionId};
use smallvec::SmallVec;

/// Names a call: exactly once within its session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId {
    /// Who calls.
    pub session: SessionId,
    /// Which of its calls.
    pub sequence: Sequence,
}

/// What is known of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// It waits in the object.
    Parked,
    /// It was executed, with this result.
    Done(Result<SmallVec<[u8; 16]>, Box<Error>>),
}

/// Below this many records a table is not purged.
const PURGE_AT_MIN: usize = 16;

/// The records of one object, in the order of their calls.
#[derive(Debug)]
pub struct Records {
    entries: Vec<(CallId, Record)>,
    purge_at: usize,
}

impl Default for Records {
    fn default() -> Self {
        Records {
            entries: Vec::new(),
            purge_at: PURGE_AT_MIN,
        }
    }
}

impl Records {
    /// The record of a call.
    pub fn find(&self, call: CallId) -> Option<&Record> {
        let position = self.position(call).ok()?;
        Some(&self.entries[position].1)
    }

    /// Sets the record of a call. Drops those of its session below `acked`, and now and then those of
    /// all that are not `needed`.
    pub fn put(
        &mut self,
        call: CallId,
        record: Record,
        acked: Sequence,
        needed: &dyn Fn(CallId) -> bool,
    ) {
        let end = match self.position(call) {
            Ok(position) => {
                self.entries[position].1 = record;
                return;
            }
            Err(position) => position,
        };
        let start = self.first_unneeded(call, acked, end);
        if start < end {
            // The usual case: the new record takes the place of the session's last one.
            self.entries[start] = (call, record);
            self.entries.drain(start + 1..end);
        } else {
            self.entries.insert(end, (call, record));
        }
        if self.entries.len() > self.purge_at {
            self.purge(needed);
        }
    }

    /// Where the acknowledged records of the call's session begin, that end before `end`.
    fn first_unneeded(&self, call: CallId, acked: Sequence, end: usize) -> usize {
        let unneeded = |(id, record): &(CallId, Record)| {
            id.session == call.session && id.sequence < acked && *record != Record::Parked
        };
        let count = self.entries[..end]
            .iter()
            .rev()
            .take_while(|entry| unneeded(entry))
            .count();
        end - count
    }

    /// Drops every record below its session's acknowledgement.
    pub fn purge(&mut self, needed: &dyn Fn(CallId) -> bool) {
        self.entries
            .retain(|(id, record)| *record == Record::Parked || needed(*id));
        self.purge_at = (2 * self.entries.len()).max(PURGE_AT_MIN);
        self.entries.shrink_to(self.purge_at);
    }

    /// Drops the record of a call.
    pub fn remove(&mut self, call: CallId) {
        if let Ok(position) = self.position(call) {
            self.entries.remove(position);
        }
    }

    /// Drops all records of a session.
    pub fn forget(&mut self, session: SessionId) {
        self.entries.retain(|(id, _)| id.session != session);
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn position(&self, call: CallId) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&call, |(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn id(session: u64, sequence: u64) -> CallId {
        CallId {
            session: SessionId(session),
            sequence: Sequence(sequence),
        }
    }

    fn done(byte: u8) -> Record {
        Record::Done(Ok(SmallVec::from_slice(&[byte])))
    }

    #[test]
    fn an_acknowledged_record_makes_room_for_the_next() {
        let mut records = Records::default();
        for sequence in 1..=1000 {
            records.put(id(1, sequence), done(1), Sequence(sequence), &|_| true);
            assert_eq!(records.len(), 1);
        }
    }

    #[test]
    fn records_of_sessions_that_went_elsewhere_are_bounded() {
        let mut records = Records::default();
        for session in 0..10_000 {
            records.put(id(session, 1), done(1), Sequence(1), &|_| false);
            assert!(records.len() <= PURGE_AT_MIN + 1);
        }
    }

    #[test]
    fn parked_calls_are_never_dropped() {
        let mut records = Records::default();
        records.put(id(1, 1), Record::Parked, Sequence(1), &|_| true);
        records.put(id(1, 2), done(2), Sequence(2), &|_| true);
        records.purge(&|_| false);
        assert_eq!(records.find(id(1, 1)), Some(&Record::Parked));
        assert_eq!(records.find(id(1, 2)), None);
    }

    proptest! {
        /// Whatever the interleaving, a record that is not acknowledged is found as it was put.
        #[test]
        fn keeps_what_is_not_acknowledged(
            calls in prop::collection::vec((0u64..6, 0u64..4, any::<u8>()), 1..300)
        ) {
            let mut records = Records::default();
            let mut model: BTreeMap<CallId, u8> = BTreeMap::new();
            let mut next: BTreeMap<u64, u64> = BTreeMap::new();
            let mut acked: BTreeMap<u64, u64> = BTreeMap::new();
            for (session, lag, byte) in calls {
                let sequence = next.entry(session).or_insert(0);
                *sequence += 1;
                let ack = acked.entry(session).or_insert(0);
                *ack = (*ack).max(sequence.saturating_sub(lag));
                let (sequence, ack) = (*sequence, *ack);
                model.insert(id(session, sequence), byte);
                let watermarks = acked.clone();
                records.put(id(session, sequence), done(byte), Sequence(ack), &|call| {
                    watermarks.get(&call.session.0).is_some_and(|w| call.sequence.0 >= *w)
                });
                for (call, byte) in &model {
                    if call.sequence.0 >= acked[&call.session.0] {
                        prop_assert_eq!(records.find(*call), Some(&done(*byte)));
                    }
                }
            }
        }
    }
}
