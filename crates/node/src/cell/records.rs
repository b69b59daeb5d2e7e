//! Completion records: an object's memory of the calls that it has executed.
//!
//! A record is kept until its caller says that it has the result. Each call of a session names the
//! lowest sequence that the session still waits for (`acked`): records of the session below that go at
//! once. A session with a call that waits for long says now and then exactly for which calls it waits.
//! Records that are not needed by that go by a change, when the table has doubled. So a table is bounded by the calls
//! in flight, and one result per session that has called since the last such change.

use std::collections::BTreeMap;

use crucial_object::{Error, Sequence, SessionId};

/// Names a call: exactly once within its session.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize,
)]
pub struct CallId {
    /// The caller.
    pub session: SessionId,
    /// The call's number in its session.
    pub sequence: Sequence,
}

/// The record of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The call waits in the object.
    Parked,
    /// The call was executed, with this result.
    Done(Outcome),
}

/// The result of a call. There may be millions, and most are short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The first of these bytes, as many as the number says.
    Short(u8, [u8; SHORT_MAX]),
    /// More bytes.
    Long(Box<[u8]>),
    /// An error.
    Failed(Box<Error>),
}

/// So that a record is as large as three words.
const SHORT_MAX: usize = 22;

impl Record {
    /// Whether the call waits.
    pub fn is_parked(&self) -> bool {
        *self == Record::Parked
    }
}

impl Outcome {
    /// Keeps a result.
    pub fn new(result: Result<&[u8], &Error>) -> Outcome {
        match result {
            Ok(bytes) => {
                let mut short = [0; SHORT_MAX];
                match (short.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
                    (Some(place), Ok(len)) => {
                        place.copy_from_slice(bytes);
                        Outcome::Short(len, short)
                    }
                    _ => Outcome::Long(bytes.into()),
                }
            }
            Err(error) => Outcome::Failed(Box::new(error.clone())),
        }
    }

    /// The result.
    pub fn result(&self) -> Result<&[u8], &Error> {
        match self {
            Outcome::Short(len, bytes) => Ok(&bytes[..usize::from(*len)]),
            Outcome::Long(bytes) => Ok(bytes),
            Outcome::Failed(error) => Err(error),
        }
    }
}

/// Above this many records they are in a tree; below, in a vector, which takes less memory.
const FEW_MAX: usize = 64;

/// The records of one object, in the order of their calls.
#[derive(Debug, Default)]
pub struct Records(Entries);

#[derive(Debug, Default)]
enum Entries {
    #[default]
    None,
    /// Most objects never have a second, so it takes no allocation.
    One((CallId, Record)),
    #[expect(
        clippy::box_collection,
        reason = "beside a vector of three words there is no room for the variant"
    )]
    Few(Box<Vec<(CallId, Record)>>),
    #[expect(clippy::box_collection, reason = "as above")]
    Many(Box<BTreeMap<CallId, Record>>),
}

impl Entries {
    /// Those that are not in a tree.
    fn listed(&self) -> &[(CallId, Record)] {
        match self {
            Entries::None | Entries::Many(_) => &[],
            Entries::One(entry) => std::slice::from_ref(entry),
            Entries::Few(entries) => entries,
        }
    }
}

impl Records {
    /// The record of a call.
    pub fn find(&self, call: CallId) -> Option<&Record> {
        if let Entries::Many(many) = &self.0 {
            return many.get(&call);
        }
        let entries = self.0.listed();
        let position = position(entries, call).ok()?;
        Some(&entries[position].1)
    }

    /// Sets the record of a call. Drops those of its session below `acked`.
    pub fn put(&mut self, call: CallId, record: Record, acked: Sequence) {
        let must_fit = match &mut self.0 {
            Entries::None => {
                self.0 = Entries::One((call, record));
                false
            }
            // The usual case: the new record takes the place of the session's last one.
            Entries::One(entry) if entry.0 == call || is_unneeded(entry, call, acked) => {
                *entry = (call, record);
                false
            }
            Entries::One(_) => {
                let Entries::One(first) = std::mem::take(&mut self.0) else {
                    unreachable!("the arm says so")
                };
                let mut entries = vec![first];
                put_few(&mut entries, call, record, acked);
                self.0 = Entries::Few(Box::new(entries));
                false
            }
            Entries::Few(entries) => {
                put_few(entries, call, record, acked);
                entries.len() > FEW_MAX
            }
            Entries::Many(entries) => {
                put_many(entries, call, record, acked);
                false
            }
        };
        if must_fit {
            self.fit();
        }
    }

    /// Drops all records of a session.
    pub fn forget(&mut self, session: SessionId) {
        self.retain(|call, _| call.session != session);
        self.fit();
    }

    /// Drops the records of these calls.
    pub fn forget_calls(&mut self, calls: &[CallId]) {
        let calls: std::collections::BTreeSet<_> = calls.iter().collect();
        self.retain(|call, _| !calls.contains(&call));
        self.fit();
    }

    /// Puts back a record that was in another table.
    pub fn restore(&mut self, call: CallId, record: Record) {
        self.put(call, record, Sequence(0));
    }

    /// All records, in the order of their calls.
    pub fn iter(&self) -> impl Iterator<Item = (CallId, &Record)> {
        let many = match &self.0 {
            Entries::Many(many) => Some(&**many),
            _ => None,
        };
        let listed = self.0.listed().iter();
        let many = many.into_iter().flatten();
        listed
            .map(|(call, record)| (*call, record))
            .chain(many.map(|(call, record)| (*call, record)))
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Entries::Many(many) => many.len(),
            few => few.listed().len(),
        }
    }

    fn retain(&mut self, mut keep: impl FnMut(CallId, &Record) -> bool) {
        match &mut self.0 {
            Entries::None => {}
            Entries::One((call, record)) => {
                if !keep(*call, record) {
                    self.0 = Entries::None;
                }
            }
            Entries::Few(entries) => entries.retain(|(call, record)| keep(*call, record)),
            Entries::Many(many) => many.retain(|call, record| keep(*call, record)),
        }
    }

    /// Chooses the form that is right for this many, with room for as many again.
    fn fit(&mut self) {
        match &mut self.0 {
            Entries::Few(entries) if entries.len() > FEW_MAX => {
                let entries: BTreeMap<_, _> = std::mem::take(&mut **entries).into_iter().collect();
                self.0 = Entries::Many(Box::new(entries));
            }
            Entries::Few(entries) if entries.len() < 2 => {
                self.0 = entries.pop().map_or(Entries::None, Entries::One);
            }
            Entries::Few(entries) => {
                let room = 2 * entries.len();
                entries.shrink_to(room);
                entries.reserve_exact(room - entries.len());
            }
            Entries::Many(many) if many.len() <= FEW_MAX / 2 => {
                let entries = std::mem::take(&mut **many).into_iter().collect();
                self.0 = Entries::Few(Box::new(entries));
            }
            Entries::Many(_) | Entries::None | Entries::One(_) => {}
        }
    }
}

fn position(entries: &[(CallId, Record)], call: CallId) -> Result<usize, usize> {
    entries.binary_search_by_key(&call, |(id, _)| *id)
}

/// Whether an entry of the session of `call` comes before it and was acknowledged.
fn is_unneeded((id, record): &(CallId, Record), call: CallId, acked: Sequence) -> bool {
    id.session == call.session
        && id.sequence < acked
        && id.sequence < call.sequence
        && *record != Record::Parked
}

fn put_few(entries: &mut Vec<(CallId, Record)>, call: CallId, record: Record, acked: Sequence) {
    let end = match position(entries, call) {
        Ok(position) => {
            entries[position].1 = record;
            return;
        }
        Err(position) => position,
    };
    let count = entries[..end]
        .iter()
        .rev()
        .take_while(|entry| is_unneeded(entry, call, acked))
        .count();
    let start = end - count;
    if start < end {
        entries[start] = (call, record);
        entries.drain(start + 1..end);
    } else {
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
        Record::Done(Outcome::new(Ok(&[byte])))
    }

    #[test]
    fn records_are_small() {
        assert_eq!(size_of::<(CallId, Record)>(), 40);
        assert_eq!(size_of::<Records>(), 40);
    }

    #[test]
    fn results_are_kept_whatever_their_length() {
        for length in [0, 1, 21, 22, 23, 1000] {
            let bytes: Vec<u8> = (0..length).map(|index| index as u8).collect();
            assert_eq!(Outcome::new(Ok(&bytes)).result(), Ok(&bytes[..]));
        }
        let error = Error::Cancelled;
        assert_eq!(Outcome::new(Err(&error)).result(), Err(&error));
    }

    #[test]
    fn an_acknowledged_record_makes_room_for_the_next() {
        let mut records = Records::default();
        for sequence in 1..=1000 {
            records.put(id(1, sequence), done(1), Sequence(sequence));
            assert_eq!(records.len(), 1);
        }
    }

    #[test]
    fn records_that_are_forgotten_leave_the_others_whatever_their_number() {
        let mut records = Records::default();
        let calls: Vec<CallId> = (0..1000).map(|session| id(session, 1)).collect();
        for call in &calls {
            records.put(*call, done(call.session.0 as u8), Sequence(1));
        }
        for left in [900, 100, 30, 10, 1, 0] {
            records.forget_calls(&calls[left..]);
            assert_eq!(records.len(), left);
            let found = calls.iter().filter(|call| records.find(**call).is_some());
            assert!(found.eq(&calls[..left]));
        }
    }

    #[test]
    fn parked_calls_are_not_acknowledged() {
        let mut records = Records::default();
        records.put(id(1, 1), Record::Parked, Sequence(1));
        records.put(id(1, 2), done(2), Sequence(2));
        records.put(id(1, 3), done(3), Sequence(3));
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
                records.put(id(session, sequence), done(byte), Sequence(ack));
                for (call, byte) in &model {
                    if call.sequence.0 >= acked[&call.session.0] {
                        prop_assert_eq!(records.find(*call), Some(&done(*byte)));
                    }
                }
            }
        }
    }
}
