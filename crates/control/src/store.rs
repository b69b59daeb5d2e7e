//! The consensus library's storage: the log of commands, the vote, and the [`Control`] that results from the commands.
//! All of it is in memory; the durable part is also in the [journal](crate::journal).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io::Cursor;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;

use crucial_node::replication::{Command, Control, Refusal, View, ViewVersion};
use openraft::storage::{LogFlushed, RaftLogStorage, RaftStateMachine};
use openraft::{
    BasicNode, Entry, EntryPayload, LogId, LogState, OptionalSend, RaftLogReader,
    RaftSnapshotBuilder, Snapshot, SnapshotMeta, StorageError, StorageIOError, StoredMembership,
    Vote,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::journal::{Journal, JournalError};

openraft::declare_raft_types!(
    /// The types of the control group for the consensus library.
    pub Group:
        D = Decision,
        R = Vec<Result<ViewVersion, Refusal>>,
        NodeId = u64,
        Node = BasicNode,
        Entry = Entry<Group>,
        SnapshotData = Cursor<Vec<u8>>,
);

/// The content of a log entry: commands that are committed together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The only term in which the commands have an effect; `None`: any term. An expiry rests on the knowledge of one
    /// term's leader, which the next leader does not have.
    pub term: Option<u64>,
    /// The commands.
    pub commands: Vec<Command>,
}

impl Decision {
    fn in_term(self, term: u64) -> Vec<Command> {
        match self.term.is_none_or(|wanted| wanted == term) {
            true => self.commands,
            false => Vec::new(),
        }
    }
}

type StorageResult<T> = Result<T, StorageError<u64>>;

/// A record of the journal.
#[derive(Serialize, Deserialize)]
enum Record {
    Vote(Vote<u64>),
    Entry(Entry<Group>),
    /// The entries from this index on are deleted.
    Truncate(u64),
    /// The entries up to this one are in the snapshot.
    Purge(LogId<u64>),
    Snapshot(
        SnapshotMeta<u64, BasicNode>,
        #[serde(with = "bytes")] Vec<u8>,
    ),
    Committed(Option<LogId<u64>>),
}

mod bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        <&[u8]>::deserialize(deserializer).map(<[u8]>::to_vec)
    }
}

/// Most commands in the entries of one message to another voter, unless a single entry has more: the message must be
/// transferred and written to disk within a part of a lease. A command has less than 200 bytes.
const COMMANDS_MAX: usize = 2_000;

/// A journal of this length is rewritten if it is also four times as long as after the last rewrite.
const JOURNAL_BYTES_MIN: u64 = 4 << 20;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A record has a format that this build does not know.
    #[error(
        "record {index} of the journal in {directory} cannot be read: {detail}; the journal was written by another build"
    )]
    Record {
        /// The record's position in the journal, from 0.
        index: usize,
        /// The journal's directory.
        directory: String,
        /// The cause.
        detail: String,
    },
}

/// The store of a voter. Clones share the same data.
#[derive(Clone)]
pub struct Store(Arc<Mutex<Inner>>);

struct Inner {
    journal: Journal,
    /// The journal's length after the last rewrite.
    compact_bytes: u64,
    log: BTreeMap<u64, Entry<Group>>,
    purged: Option<LogId<u64>>,
    vote: Option<Vote<u64>>,
    committed: Option<LogId<u64>>,
    control: Control,
    applied: Option<LogId<u64>>,
    membership: StoredMembership<u64, BasicNode>,
    snapshot: Option<(SnapshotMeta<u64, BasicNode>, Vec<u8>)>,
    views: watch::Sender<Arc<View>>,
}

impl Store {
    /// Opens the store in a directory, or creates the store of a cluster without members and with `partitions` partitions.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn open(directory: &Path, partitions: usize) -> Result<Store, OpenError> {
        let (journal, records) = Journal::open(directory)?;
        let control = Control::new(partitions);
        let (views, _) = watch::channel(control.view().clone());
        let mut inner = Inner {
            compact_bytes: journal.bytes(),
            journal,
            log: BTreeMap::new(),
            purged: None,
            vote: None,
            committed: None,
            control,
            applied: None,
            membership: StoredMembership::default(),
            snapshot: None,
            views,
        };
        for (index, record) in records.iter().enumerate() {
            let bad = |detail: String| OpenError::Record {
                index,
                directory: directory.display().to_string(),
                detail,
            };
            let record = postcard::from_bytes(record).map_err(|error| bad(error.to_string()))?;
            inner.replay(record).map_err(bad)?;
        }
        Ok(Store(Arc::new(Mutex::new(inner))))
    }

    /// The newest committed view that this voter knows, and later ones.
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.0.lock().views.subscribe()
    }

    /// The voters by the newest committed membership that this voter knows.
    pub(crate) fn voters(&self) -> BTreeSet<u64> {
        let inner = self.0.lock();
        inner.membership.membership().voter_ids().collect()
    }

    /// Makes all later writes to the journal fail.
    #[cfg(test)]
    pub(crate) fn break_journal(&self) {
        self.0.lock().journal.break_file();
    }
}

impl Inner {
    fn replay(&mut self, record: Record) -> Result<(), String> {
        match record {
            Record::Vote(vote) => self.vote = Some(vote),
            Record::Entry(entry) => {
                self.log.insert(entry.log_id.index, entry);
            }
            Record::Truncate(index) => drop(self.log.split_off(&index)),
            Record::Purge(log_id) => self.purge(log_id),
            Record::Committed(committed) => self.committed = committed,
            Record::Snapshot(meta, data) => self.restore(meta, data)?,
        }
        Ok(())
    }

    fn purge(&mut self, upto: LogId<u64>) {
        self.log = self.log.split_off(&(upto.index + 1));
        self.purged = Some(upto);
    }

    fn restore(&mut self, meta: SnapshotMeta<u64, BasicNode>, data: Vec<u8>) -> Result<(), String> {
        self.control = postcard::from_bytes(&data).map_err(|error| error.to_string())?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.snapshot = Some((meta, data));
        self.views.send_replace(self.control.view().clone());
        Ok(())
    }

    /// Appends records to the journal. When the function returns, they are on disk.
    fn write(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let records: Vec<_> = records.iter().map(encode).collect();
        self.journal.append(records.iter().map(Vec::as_slice))
    }

    /// Rewrites the journal if most of its records are obsolete.
    fn compact(&mut self) -> Result<(), JournalError> {
        if self.journal.bytes() < JOURNAL_BYTES_MIN.max(4 * self.compact_bytes) {
            return Ok(());
        }
        let snapshot = self.snapshot.clone();
        let snapshot = snapshot.map(|(meta, data)| Record::Snapshot(meta, data));
        let entries = self.log.values().cloned().map(Record::Entry);
        let records = snapshot
            .into_iter()
            .chain(self.purged.map(Record::Purge))
            .chain(entries)
            .chain(self.vote.map(Record::Vote))
            .chain([Record::Committed(self.committed)]);
        let records: Vec<_> = records.map(|record| encode(&record)).collect();
        let records: Vec<_> = records.iter().map(Vec::as_slice).collect();
        self.journal.replace(&records)?;
        self.compact_bytes = self.journal.bytes();
        Ok(())
    }
}

fn encode(record: &Record) -> Vec<u8> {
    postcard::to_allocvec(record).expect("records are plain data")
}

fn failed(error: StorageIOError<u64>) -> StorageError<u64> {
    StorageError::IO { source: error }
}

impl RaftLogReader<Group> for Store {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> StorageResult<Vec<Entry<Group>>> {
        let bounds: (Bound<u64>, Bound<u64>) =
            (range.start_bound().cloned(), range.end_bound().cloned());
        let inner = self.0.lock();
        Ok(inner
            .log
            .range(bounds)
            .map(|(_, entry)| entry.clone())
            .collect())
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> StorageResult<Vec<Entry<Group>>> {
        let inner = self.0.lock();
        let mut commands = 0;
        let entries = inner.log.range(start..end).map(|(_, entry)| entry);
        let entries = entries.take_while(|entry| {
            let is_first = commands == 0;
            commands += 1 + commands_of(entry);
            is_first || commands <= COMMANDS_MAX
        });
        Ok(entries.cloned().collect())
    }
}

fn commands_of(entry: &Entry<Group>) -> usize {
    match &entry.payload {
        EntryPayload::Normal(decision) => decision.commands.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

impl RaftLogStorage<Group> for Store {
    type LogReader = Store;

    async fn get_log_state(&mut self) -> StorageResult<LogState<Group>> {
        let inner = self.0.lock();
        let last = inner.log.values().next_back().map(|entry| entry.log_id);
        Ok(LogState {
            last_purged_log_id: inner.purged,
            last_log_id: last.or(inner.purged),
        })
    }

    async fn get_log_reader(&mut self) -> Store {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> StorageResult<()> {
        let mut inner = self.0.lock();
        let written = inner.write(&[Record::Vote(*vote)]);
        written.map_err(|error| failed(StorageIOError::write_vote(&error)))?;
        inner.vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> StorageResult<Option<Vote<u64>>> {
        Ok(self.0.lock().vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId<u64>>) -> StorageResult<()> {
        let mut inner = self.0.lock();
        let written = inner.write(&[Record::Committed(committed)]);
        written.map_err(|error| failed(StorageIOError::write_logs(&error)))?;
        inner.committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> StorageResult<Option<LogId<u64>>> {
        Ok(self.0.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Group>) -> StorageResult<()>
    where
        I: IntoIterator<Item = Entry<Group>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records: Vec<_> = entries.into_iter().map(Record::Entry).collect();
        let mut inner = self.0.lock();
        let written = inner.write(&records);
        written.map_err(|error| failed(StorageIOError::write_logs(&error)))?;
        for record in records {
            if let Record::Entry(entry) = record {
                inner.log.insert(entry.log_id.index, entry);
            }
        }
        drop(inner);
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> StorageResult<()> {
        let mut inner = self.0.lock();
        let written = inner.write(&[Record::Truncate(log_id.index)]);
        written.map_err(|error| failed(StorageIOError::write_logs(&error)))?;
        drop(inner.log.split_off(&log_id.index));
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> StorageResult<()> {
        let mut inner = self.0.lock();
        let written = inner.write(&[Record::Purge(log_id)]);
        written.map_err(|error| failed(StorageIOError::write_logs(&error)))?;
        inner.purge(log_id);
        inner
            .compact()
            .map_err(|error| failed(StorageIOError::write_logs(&error)))
    }
}

impl RaftSnapshotBuilder<Group> for Store {
    async fn build_snapshot(&mut self) -> StorageResult<Snapshot<Group>> {
        let mut inner = self.0.lock();
        let data = postcard::to_allocvec(&inner.control)
            .map_err(|error| failed(StorageIOError::read_state_machine(&error)))?;
        let meta = SnapshotMeta {
            last_log_id: inner.applied,
            last_membership: inner.membership.clone(),
            snapshot_id: inner
                .applied
                .map_or_else(|| "none".to_owned(), |log_id| log_id.to_string()),
        };
        let written = inner.write(&[Record::Snapshot(meta.clone(), data.clone())]);
        written.map_err(|error| {
            failed(StorageIOError::write_snapshot(
                Some(meta.signature()),
                &error,
            ))
        })?;
        inner.snapshot = Some((meta.clone(), data.clone()));
        Ok(Snapshot {
            meta,
            snapshot: Box::new(Cursor::new(data)),
        })
    }
}

impl RaftStateMachine<Group> for Store {
    type SnapshotBuilder = Store;

    async fn applied_state(
        &mut self,
    ) -> StorageResult<(Option<LogId<u64>>, StoredMembership<u64, BasicNode>)> {
        let inner = self.0.lock();
        Ok((inner.applied, inner.membership.clone()))
    }

    async fn apply<I>(
        &mut self,
        entries: I,
    ) -> StorageResult<Vec<Vec<Result<ViewVersion, Refusal>>>>
    where
        I: IntoIterator<Item = Entry<Group>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut inner = self.0.lock();
        let mut results = Vec::new();
        for entry in entries {
            inner.applied = Some(entry.log_id);
            let commands = match entry.payload {
                EntryPayload::Blank => Vec::new(),
                EntryPayload::Normal(decision) => {
                    decision.in_term(entry.log_id.leader_id.get_term())
                }
                EntryPayload::Membership(membership) => {
                    inner.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Vec::new()
                }
            };
            let done = commands.iter().map(|command| {
                inner.control.apply(command)?;
                Ok(inner.control.view().version)
            });
            results.push(done.collect());
        }
        let view = inner.control.view().clone();
        inner.views.send_if_modified(|present| {
            let newer = present.version < view.version;
            if newer {
                *present = view;
            }
            newer
        });
        Ok(results)
    }

    async fn get_snapshot_builder(&mut self) -> Store {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> StorageResult<Box<Cursor<Vec<u8>>>> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, BasicNode>,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> StorageResult<()> {
        let data = snapshot.into_inner();
        let mut inner = self.0.lock();
        // A malformed snapshot must not get into the journal.
        if let Err(error) = postcard::from_bytes::<Control>(&data) {
            let signature = Some(meta.signature());
            return Err(failed(StorageIOError::read_snapshot(signature, &error)));
        }
        let written = inner.write(&[Record::Snapshot(meta.clone(), data.clone())]);
        written.map_err(|error| {
            failed(StorageIOError::write_snapshot(
                Some(meta.signature()),
                &error,
            ))
        })?;
        inner.restore(meta.clone(), data).map_err(|detail| {
            let error = std::io::Error::other(detail);
            failed(StorageIOError::read_snapshot(
                Some(meta.signature()),
                &error,
            ))
        })
    }

    async fn get_current_snapshot(&mut self) -> StorageResult<Option<Snapshot<Group>>> {
        let inner = self.0.lock();
        let snapshot = inner.snapshot.clone();
        Ok(snapshot.map(|(meta, data)| Snapshot {
            meta,
            snapshot: Box::new(Cursor::new(data)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::testing::{StoreBuilder, Suite};
    use tempfile::TempDir;

    struct Builder;

    impl StoreBuilder<Group, Store, Store, TempDir> for Builder {
        async fn build(&self) -> StorageResult<(TempDir, Store, Store)> {
            let directory = tempfile::tempdir().unwrap();
            let store = Store::open(directory.path(), 16).unwrap();
            Ok((directory, store.clone(), store))
        }
    }

    #[test]
    fn the_commands_per_message_are_limited() {
        use openraft::CommittedLeaderId;
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::open(directory.path(), 16).unwrap();
        let command = Command::Leave {
            node: crucial_node::replication::NodeId(1),
            incarnation: crucial_node::replication::Incarnation(1),
        };
        for (index, count) in [(1, 10), (2, COMMANDS_MAX + 10), (3, 10)] {
            let decision = Decision {
                term: None,
                commands: vec![command.clone(); count],
            };
            let entry = Entry {
                log_id: LogId::new(CommittedLeaderId::new(1, 1), index),
                payload: EntryPayload::Normal(decision),
            };
            store.0.lock().log.insert(index, entry);
        }
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.build().unwrap();
        let mut from = |start| {
            let read = store.limited_get_log_entries(start, 4);
            let entries = runtime.block_on(read).unwrap();
            let indices = entries.iter().map(|entry| entry.log_id.index);
            indices.collect::<Vec<_>>()
        };
        assert_eq!(from(1), [1]);
        assert_eq!(from(2), [2]);
        assert_eq!(from(3), [3]);
    }

    /// The consensus library's own tests of a store.
    #[test]
    fn the_library_accepts_the_store() {
        Suite::test_all(Builder).unwrap();
    }
}
