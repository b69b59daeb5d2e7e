//! The consensus library's storage: the log of commands, the vote, and the [`Control`] that results from the commands.
//! All of it is in memory; the durable part is also in the [journal](crate::journal), which a thread of its own writes
//! (`writer.rs`): nothing waits for the disk with a lock, or on a thread that has something else to do. Neither does the
//! library: to it a vote and log entries are written when they are handed over. So nothing may leave the server that rests
//! on records which are not on disk yet (`Store::all_written`, `Store::entry_written`), and no entry is applied before.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io::{self, Cursor};
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;

use crucial_node::replication::{Control, Refusal, View, ViewVersion};
use openraft::storage::{LogFlushed, RaftLogStorage, RaftStateMachine};
use openraft::{
    BasicNode, CommittedLeaderId, Entry, EntryPayload, LogId, LogState, Membership, OptionalSend,
    RaftLogReader, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StorageError, StorageIOError,
    StoredMembership, Vote,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::durable::{Durable, Pending};
use crate::journal::{FileSync, Journal, JournalError};
pub use crate::types::Group;
use crate::writer::Writer;
pub use crucial_node::replication::Decision;

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
    writer: Writer,
    durable: Durable,
    /// Records that nothing waits for: they are written with the next ones that have to be on disk. After a crash without
    /// them the log has entries and a snapshot that are older, and still right.
    unsynced: Vec<Vec<u8>>,
    /// The journal's length after the last rewrite; an estimate while that is being written.
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
    pub fn open(directory: &Path, partitions: usize, sync: FileSync) -> Result<Store, OpenError> {
        let (mut journal, records) = Journal::open(directory)?;
        let control = Control::new(partitions);
        let (views, _) = watch::channel(control.view().clone());
        let bytes = journal.bytes();
        journal.set_sync(sync);
        let writer = Writer::start(journal).map_err(|source| JournalError::Io {
            what: "start a thread for",
            path: directory.to_owned(),
            source,
        })?;
        let mut inner = Inner {
            compact_bytes: bytes,
            writer,
            durable: Durable::new(),
            unsynced: Vec::new(),
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
            let record = postcard::from_bytes(record)
                .map_err(|_| bad("the bytes are not what this version writes".to_owned()))?;
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

    /// The last decided log entry.
    pub(crate) fn committed(&self) -> Option<LogId<u64>> {
        let inner = self.0.lock();
        inner.committed.max(inner.applied)
    }

    /// The id of a log entry; `None`: it is only in a snapshot, or the log does not reach that far.
    pub(crate) fn log_id(&self, index: u64) -> Option<LogId<u64>> {
        self.0.lock().log.get(&index).map(|entry| entry.log_id)
    }

    /// The last entry of the log.
    pub(crate) fn last_log_id(&self) -> Option<LogId<u64>> {
        let inner = self.0.lock();
        let last = inner.log.values().next_back().map(|entry| entry.log_id);
        last.max(inner.purged).max(inner.applied)
    }

    /// Waits until all that the library has written so far is on disk.
    ///
    /// # Errors
    ///
    /// If the disk cannot be written.
    pub(crate) async fn all_written(&self) -> io::Result<()> {
        let pending = self.0.lock().durable.all();
        pending.written().await
    }

    /// Waits until a log entry, and all before it, are on disk.
    ///
    /// # Errors
    ///
    /// If the disk cannot be written, or the log has another entry in this place by now.
    pub(crate) async fn entry_written(&self, log_id: LogId<u64>) -> io::Result<()> {
        let pending = {
            let inner = self.0.lock();
            if !inner.has(log_id) {
                return Err(io::Error::other("the log has another entry in this place"));
            }
            inner.durable.entry(log_id.index)
        };
        pending.written().await
    }

    /// Waits until the first of these log entries is on disk, and returns how many of them are.
    ///
    /// # Errors
    ///
    /// As for [`entry_written`](Store::entry_written).
    pub(crate) async fn some_written(&self, entries: &[Entry<Group>]) -> io::Result<usize> {
        if let Some(first) = entries.first() {
            self.entry_written(first.log_id).await?;
        }
        let inner = self.0.lock();
        let is_written = |entry: &&Entry<Group>| {
            inner.has(entry.log_id) && inner.durable.has_entry(entry.log_id.index)
        };
        Ok(entries.iter().take_while(is_written).count())
    }

    /// Whether something that the library has written is not on disk yet.
    pub(crate) fn is_behind(&self) -> bool {
        self.0.lock().durable.is_behind()
    }

    /// Waits until the disk cannot be written, and returns the reason.
    pub(crate) async fn failed(&self) -> String {
        let pending = self.0.lock().durable.all();
        pending.failed().await
    }

    /// The state of the group after all entries of the log, also those of which this server does not know whether they are
    /// decided.
    pub(crate) fn possible_control(&self) -> Control {
        let inner = self.0.lock();
        let mut control = inner.control.clone();
        let next = inner.applied.map_or(0, |applied| applied.index + 1);
        for (_, entry) in inner.log.range(next..) {
            if let EntryPayload::Normal(decision) = &entry.payload {
                let term = entry.log_id.leader_id.get_term();
                for command in decision.clone().in_term(term) {
                    // A refusal is what the command comes to.
                    let _ = control.apply(&command);
                }
            }
        }
        control
    }

    /// Replaces the log by that of a new group, which begins with this state and has one voter.
    ///
    /// # Errors
    ///
    /// If the disk cannot be written.
    pub(crate) async fn begin_group(
        &self,
        control: Control,
        (node, address): (u64, String),
    ) -> io::Result<()> {
        let last = self.last_log_id();
        let data = postcard::to_allocvec(&control).map_err(io::Error::other)?;
        let written = {
            let mut inner = self.0.lock();
            let voted = inner.vote.map_or(0, |vote| vote.leader_id.get_term());
            let term = voted.max(last.map_or(0, |last| last.leader_id.get_term())) + 1;
            let index = last.map_or(0, |last| last.index) + 1;
            let log_id = LogId::new(CommittedLeaderId::new(term, node), index);
            let nodes = BTreeMap::from([(node, BasicNode::new(address))]);
            let membership = Membership::new(vec![BTreeSet::from([node])], nodes);
            let membership = StoredMembership::new(Some(log_id), membership);
            let meta = SnapshotMeta {
                last_log_id: Some(log_id),
                last_membership: membership.clone(),
                snapshot_id: log_id.to_string(),
            };
            inner.log.clear();
            inner.purged = Some(log_id);
            inner.vote = Some(Vote::new(term, node));
            inner.committed = Some(log_id);
            inner.control = control;
            inner.applied = Some(log_id);
            inner.membership = membership;
            inner.snapshot = Some((meta, data));
            inner.rewrite()
        };
        written.written().await
    }

    /// Replaces the log by an empty one, to be filled by a new group. The view stays until there is another.
    ///
    /// # Errors
    ///
    /// If the disk cannot be written.
    pub(crate) async fn leave_group(&self) -> io::Result<()> {
        let written = {
            let mut inner = self.0.lock();
            inner.log.clear();
            inner.purged = None;
            inner.vote = None;
            inner.committed = None;
            inner.applied = None;
            inner.membership = StoredMembership::default();
            inner.snapshot = None;
            inner.rewrite()
        };
        written.written().await
    }

    /// Announces the view of a group that has begun.
    pub(crate) fn publish(&self) {
        let inner = self.0.lock();
        inner.views.send_replace(inner.control.view().clone());
    }

    /// Makes all later writes to the journal fail.
    #[cfg(test)]
    pub(crate) fn break_journal(&self) {
        self.0.lock().writer.break_file();
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
        let partitions = self.control.view().configurations.len();
        self.control = read_control(&data, partitions)?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.snapshot = Some((meta, data));
        self.views.send_replace(self.control.view().clone());
        Ok(())
    }

    /// Whether this is an entry of the log; those that are only in the snapshot were decided.
    fn has(&self, log_id: LogId<u64>) -> bool {
        let is_purged = self.purged.is_some_and(|last| log_id.index <= last.index);
        let entry = self.log.get(&log_id.index);
        is_purged || entry.is_some_and(|entry| entry.log_id == log_id)
    }

    /// Hands records to the journal's thread, behind those that nothing waits for.
    fn write(&mut self, records: impl IntoIterator<Item = Vec<u8>>) {
        let mut all = std::mem::take(&mut self.unsynced);
        all.extend(records);
        let written = self.durable.begin();
        self.writer.append(all, written);
    }

    /// Rewrites the journal if most of its records are obsolete.
    fn compact(&mut self) {
        if self.writer.bytes() < JOURNAL_BYTES_MIN.max(4 * self.compact_bytes) {
            return;
        }
        let records = self.all_records();
        self.compact_bytes = records.iter().map(|record| record.len() as u64).sum();
        self.replace(records);
    }

    /// Rewrites the journal. What is returned must not be awaited with the store locked.
    fn rewrite(&mut self) -> Pending {
        self.durable.truncate(0);
        self.replace(self.all_records());
        self.durable.all()
    }

    fn replace(&mut self, records: Vec<Vec<u8>>) {
        self.unsynced.clear();
        let written = self.durable.begin();
        self.writer.replace(records, written);
    }

    /// All that the journal has to contain.
    fn all_records(&self) -> Vec<Vec<u8>> {
        let snapshot = self.snapshot.clone();
        let snapshot = snapshot.map(|(meta, data)| Record::Snapshot(meta, data));
        let entries = self.log.values().cloned().map(Record::Entry);
        let records = snapshot
            .into_iter()
            .chain(self.purged.map(Record::Purge))
            .chain(entries)
            .chain(self.vote.map(Record::Vote))
            .chain(self.committed.map(|last| Record::Committed(Some(last))));
        records.map(|record| encode(&record)).collect()
    }
}

/// Decodes a state of the group's state machine.
///
/// # Errors
///
/// If the state is malformed, or of a cluster with another number of partitions.
pub(crate) fn read_control(bytes: &[u8], partitions: usize) -> Result<Control, String> {
    let control: Control =
        postcard::from_bytes(bytes).map_err(|_| "a malformed view".to_owned())?;
    control
        .check(partitions)
        .map_err(|why| format!("a view that cannot be: {why}"))?;
    Ok(control)
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
        let usable = inner.durable.check();
        usable.map_err(|error| failed(StorageIOError::write_vote(&error)))?;
        inner.vote = Some(*vote);
        inner.write([encode(&Record::Vote(*vote))]);
        Ok(())
    }

    async fn read_vote(&mut self) -> StorageResult<Option<Vote<u64>>> {
        Ok(self.0.lock().vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId<u64>>) -> StorageResult<()> {
        // Without it a voter that starts again has an older view, until it hears from the leader what is decided.
        let mut inner = self.0.lock();
        inner.unsynced.push(encode(&Record::Committed(committed)));
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
        let entries: Vec<_> = entries.into_iter().collect();
        let records = entries.iter().cloned().map(Record::Entry);
        let records: Vec<_> = records.map(|record| encode(&record)).collect();
        let mut inner = self.0.lock();
        let usable = inner.durable.check();
        usable.map_err(|error| failed(StorageIOError::write_logs(&error)))?;
        inner.write(records);
        let indices = entries.iter().map(|entry| entry.log_id.index);
        inner.durable.add_entries(indices);
        let entries = entries.into_iter();
        inner
            .log
            .extend(entries.map(|entry| (entry.log_id.index, entry)));
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> StorageResult<()> {
        let mut inner = self.0.lock();
        inner.unsynced.push(encode(&Record::Truncate(log_id.index)));
        drop(inner.log.split_off(&log_id.index));
        inner.durable.truncate(log_id.index);
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> StorageResult<()> {
        let mut inner = self.0.lock();
        // Behind the snapshot that has these entries.
        inner.unsynced.push(encode(&Record::Purge(log_id)));
        inner.purge(log_id);
        inner.compact();
        Ok(())
    }
}

impl RaftSnapshotBuilder<Group> for Store {
    async fn build_snapshot(&mut self) -> StorageResult<Snapshot<Group>> {
        let (control, applied, last_membership) = {
            let inner = self.0.lock();
            (
                inner.control.clone(),
                inner.applied,
                inner.membership.clone(),
            )
        };
        let data = postcard::to_allocvec(&control)
            .map_err(|error| failed(StorageIOError::read_state_machine(&error)))?;
        let meta = SnapshotMeta {
            last_log_id: applied,
            last_membership,
            snapshot_id: applied.map_or_else(|| "none".to_owned(), |log_id| log_id.to_string()),
        };
        let record = encode(&Record::Snapshot(meta.clone(), data.clone()));
        let mut inner = self.0.lock();
        let newest = inner
            .snapshot
            .as_ref()
            .and_then(|(meta, _)| meta.last_log_id);
        // Another one may have been installed meanwhile.
        if newest <= meta.last_log_id {
            inner.unsynced.push(record);
            inner.snapshot = Some((meta.clone(), data.clone()));
        }
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
        let entries: Vec<_> = entries.into_iter().collect();
        // The leader takes part in the majority that has an entry, and must have it after a crash as well.
        if let Some(last) = entries.last() {
            let pending = self.0.lock().durable.entry(last.log_id.index);
            let written = pending.written().await;
            written.map_err(|error| failed(StorageIOError::apply(last.log_id, &error)))?;
        }
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
        let record = Record::Snapshot(meta.clone(), data.clone());
        let written = {
            let mut inner = self.0.lock();
            inner.write([encode(&record)]);
            inner.durable.all()
        };
        written.written().await.map_err(|error| {
            failed(StorageIOError::write_snapshot(
                Some(meta.signature()),
                &error,
            ))
        })?;
        let mut inner = self.0.lock();
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
mod tests;
