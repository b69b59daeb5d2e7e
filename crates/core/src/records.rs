//! Completion records: an object's memory of the calls that it has executed.
//!
//! A record is kept until its caller says that it has the result. Each call of a session names the
//! lowest sequence that the session still waits for (`acked`): records of the session below that go at
//! once. A session with a call that waits for long says now and then exactly for which calls it waits.
//! Records that are not needed by that go when the table has doubled. So a table is bounded by the calls
//! in flight, and one result per session that has called since the last purge.

use std::collections::BTreeMap;

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

/// Above this many records they are in a tree; below, in a vector, which takes less memory.
const FEW_MAX: usize = 64;

/// The records of one object, in the order of their calls.
#[derive(Debug)]
pub struct Records {
    entries: Entries,
    purge_at: u32,
}

#[derive(Debug)]
enum Entries {
    Few(Vec<(CallId, Record)>),
    Many(BTreeMap<CallId, Record>),
}

impl Default for Records {
    fn default() -> Self {
        Records {
            entries: Entries::Few(Vec::new()),
            purge_at: PURGE_AT_MIN as u32,
        }
    }
}

impl Records {
    /// The record of a call.
    pub fn find(&self, call: CallId) -> Option<&Record> {
        match &self.entries {
            Entries::Few(entries) => {
                let position = position(entries, call).ok()?;
                Some(&entries[position].1)
            }
            Entries::Many(entries) => entries.get(&call),
        }
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
        match &mut self.entries {
            Entries::Few(entries) => put_few(entries, call, record, acked),
            Entries::Many(entries) => put_many(entries, call, record, acked),
        }
        if self.len() > self.purge_at as usize {
            self.purge(needed);
        }
    }

    /// Drops every record that nobody needs.
    pub fn purge(&mut self, needed: &dyn Fn(CallId) -> bool) {
        self.retain(|call, record| *record == Record::Parked || needed(call));
        let purge_at = (2 * self.len()).max(PURGE_AT_MIN);
        self.purge_at = u32::try_from(purge_at).unwrap_or(u32::MAX);
        self.fit();
    }

    /// Drops all records of a session.
    pub fn forget(&mut self, session: SessionId) {
        self.retain(|call, _| call.session != session);
        self.fit();
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        match &self.entries {
            Entries::Few(entries) => entries.len(),
            Entries::Many(entries) => entries.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn retain(&mut self, mut keep: impl FnMut(CallId, &Record) -> bool) {
        match &mut self.entries {
            Entries::Few(entries) => entries.retain(|(call, record)| keep(*call, record)),
            Entries::Many(entries) => entries.retain(|call, record| keep(*call, record)),
        }
    }

    /// Chooses the form that is right for this many.
    fn fit(&mut self) {
        match &mut self.entries {
            Entries::Few(entries) if entries.len() > FEW_MAX => {
                let entries = std::mem::take(entries).into_iter().collect();
                self.entries = Entries::Many(entries);
            }
            Entries::Few(entries) => entries.shrink_to(2 * entries.len()),
            Entries::Many(entries) if entries.len() <= FEW_MAX / 2 => {
                let entries = std::mem::take(entries).into_iter().collect();
                self.entries = Entries::Few(entries);
            }
            Entries::Many(_) => {}
        }
    }
}

fn position(entries: &[(CallId, Record)], call: CallId) -> Result<usize, usize> {
    entries.binary_search_by_key(&call, |(id, _)| *id)
}

fn put_few(entries: &mut Vec<(CallId, Record)>, call: CallId, record: Record, acked: Sequence) {
    let end = match position(entries, call) {
        Ok(position) => {
            entries[position].1 = record;
            return;
        }
        Err(position) => position,
    };
    let unneeded = |(id, record): &(CallId, Record)| {
        id.session == call.session && id.sequence < acked && *record != Record::Parked
    };
    let count = entries[..end]
        .iter()
        .rev()
        .take_while(|entry| unneeded(entry))
        .count();
    let start = end - count;
    if start < end {
        // The usual case: the new record takes the place of the session's last one.
        entries[start] = (call, record);
        entries.drain(start + 1..end);
    } else {
        if entries.is_empty() {
            // Most objects never have a second.
            entries.reserve_exact(1);
        }
        entries.insert(end, (call, record));
    }
}

fn put_many(entries: &mut BTreeMap<CallId, Record>, call: CallId, record: Record, acked: Sequence) {
    if entries.insert(call, record).is_some() {
        return;
    }
    while let Some((&last, record)) = entries.range(..call).next_back()
        && last.session == call.session
        && last.sequence < acked
        && *record != Record::Parked
    {
        entries.remove(&last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
            calls in prop::collection::vec((0u64..6, 0u64..40, any::<u8>()), 1..600)
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
