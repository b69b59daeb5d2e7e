//! Nothing that other servers rest on leaves this one before it is on disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use crucial_node::replication::{Command, Incarnation, NodeId};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest};
use openraft::storage::RaftLogStorageExt;
use openraft::{CommittedLeaderId, Entry, EntryPayload, LogId, Vote};
use parking_lot::{Condvar, Mutex};

use crate::alone::{Alone, PATIENCE};
use crate::journal::FileSync;
use crate::message::{Request, Response, encode};
use crate::store::{Group, Store};

/// A disk that can be held up.
#[derive(Default)]
struct Disk {
    is_held: Mutex<bool>,
    changed: Condvar,
}

impl Disk {
    fn sync(self: &Arc<Disk>) -> FileSync {
        let disk = self.clone();
        FileSync::new(move |file| {
            let mut is_held = disk.is_held.lock();
            // A test that fails must still end.
            let patience = Duration::from_secs(5);
            disk.changed
                .wait_while_for(&mut is_held, |is_held| *is_held, patience);
            file.sync_data()
        })
    }

    fn hold(&self, is_held: bool) {
        *self.is_held.lock() = is_held;
        self.changed.notify_all();
    }
}

/// The term of a leader that this server has never heard of.
const LATER: u64 = 1_000;

fn id(index: u64) -> LogId<u64> {
    LogId::new(CommittedLeaderId::new(LATER, 99), index)
}

/// The response comes when the disk goes on, and not before.
fn await_disk(disk: &Disk, response: &mpsc::Receiver<Vec<u8>>) -> Response {
    // For a response that must not come there is nothing else to wait for.
    let early = response.recv_timeout(Duration::from_millis(300));
    assert_eq!(
        early,
        Err(RecvTimeoutError::Timeout),
        "before it is on disk"
    );
    disk.hold(false);
    let response = response.recv_timeout(PATIENCE).unwrap();
    postcard::from_bytes(&response).unwrap()
}

#[test]
fn a_vote_is_given_when_it_is_on_disk() {
    let disk = Arc::<Disk>::default();
    let alone = Alone::start_on(disk.sync());
    let elect = |term| {
        let vote = VoteRequest::new(Vote::new(term, 99), Some(id(LATER)));
        encode(&Request::Vote(vote))
    };
    let mut term = LATER;
    loop {
        disk.hold(true);
        // Refused as long as the leader, which is this server, may be alive.
        term += 1;
        let response = alone.send(&elect(term));
        match response.recv_timeout(Duration::from_millis(300)) {
            Ok(refused) => {
                let refused = postcard::from_bytes(&refused).unwrap();
                let Response::Vote(Ok(refused)) = refused else {
                    panic!("no response to a candidate");
                };
                assert!(!refused.vote_granted, "before it is on disk");
                disk.hold(false);
            }
            Err(_) => {
                let Response::Vote(Ok(given)) = await_disk(&disk, &response) else {
                    panic!("no response to a candidate");
                };
                assert!(given.vote_granted);
                return;
            }
        }
    }
}

#[test]
fn log_entries_are_acknowledged_when_they_are_on_disk_and_heartbeats_at_once() {
    let disk = Arc::<Disk>::default();
    let alone = Alone::start_on(disk.sync());
    let started = Instant::now();
    // With a lease there is nothing more to decide.
    while alone.notes.grants.load(Ordering::Relaxed) == 0 {
        assert!(started.elapsed() < PATIENCE, "no lease");
    }
    let last = || match alone.ask(&encode(&Request::Progress)) {
        Some(Response::Progress(Some(last))) => last,
        _ => panic!("the server has a log"),
    };
    // This server is the only voter and leads again at once, so that each message is of a later term.
    let append = |term, previous: Option<LogId<u64>>, entries: Vec<Entry<Group>>| {
        let request = AppendEntriesRequest {
            vote: Vote::new_committed(term, 99),
            prev_log_id: previous,
            entries,
            leader_commit: None,
        };
        alone.send(&encode(&Request::Append(request)))
    };
    let is_success = |response: Response| {
        matches!(
            response,
            Response::Append(Ok(AppendEntriesResponse::Success))
        )
    };
    let previous = last();
    let entry = id(previous.index + 1);
    disk.hold(true);
    let blank = Entry {
        log_id: entry,
        payload: EntryPayload::Blank,
    };
    let first = append(LATER, Some(previous), vec![blank]);
    let started = Instant::now();
    while last() < entry {
        assert!(started.elapsed() < PATIENCE, "the entry is not taken");
    }
    let heartbeat = append(2 * LATER, None, Vec::new());
    let heartbeat = heartbeat.recv_timeout(PATIENCE).unwrap();
    assert!(is_success(postcard::from_bytes(&heartbeat).unwrap()));
    // A message that only says that the entry is there is no acknowledgement, either.
    let second = append(3 * LATER, Some(entry), Vec::new());
    let early = second.recv_timeout(Duration::from_millis(100));
    assert_eq!(
        early,
        Err(RecvTimeoutError::Timeout),
        "before it is on disk"
    );
    assert!(is_success(await_disk(&disk, &first)));
    let second = second.recv_timeout(PATIENCE).unwrap();
    assert!(is_success(postcard::from_bytes(&second).unwrap()));
}

#[test]
fn a_decision_counts_when_it_is_on_the_leaders_disk() {
    let disk = Arc::<Disk>::default();
    let alone = Alone::start_on(disk.sync());
    alone.decides();
    let join = Command::Join {
        node: NodeId(5),
        incarnation: Incarnation(1),
        address: "127.0.0.1:2".to_owned(),
        lease_ms: 200,
    };
    disk.hold(true);
    let response = alone.send(&encode(&Request::Propose(vec![join])));
    // The view is not that of a decision, either.
    let early = response.recv_timeout(Duration::from_millis(300));
    assert_eq!(
        early,
        Err(RecvTimeoutError::Timeout),
        "before it is on disk"
    );
    assert!(!alone.group.view().has(NodeId(5), Incarnation(1)));
    let response = await_disk(&disk, &response);
    assert!(matches!(response, Response::Proposed(results) if results[0].is_ok()));
    assert!(alone.group.view().has(NodeId(5), Incarnation(1)));
}

#[test]
fn a_leader_sends_what_is_on_its_disk() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::<Disk>::default();
    let mut store = Store::open(directory.path(), 4, disk.sync()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().unwrap();
    let entry = |index| Entry {
        log_id: id(index),
        payload: EntryPayload::Blank,
    };
    let entries = [entry(0), entry(1), entry(2)];
    runtime.block_on(async {
        store.blocking_append([entry(0)]).await.unwrap();
        assert_eq!(store.some_written(&entries[..1]).await.unwrap(), 1);
        disk.hold(true);
        store.blocking_append([entry(1), entry(2)]).await.unwrap();
        assert!(store.is_behind());
        // Those that are on disk do not wait for the others.
        assert_eq!(store.some_written(&entries).await.unwrap(), 1);
        let later = store.some_written(&entries[1..]);
        let later = tokio::time::timeout(Duration::from_millis(100), later);
        assert!(later.await.is_err(), "before it is on disk");
        disk.hold(false);
        assert_eq!(store.some_written(&entries[1..]).await.unwrap(), 2);
        // An entry that another leader has replaced is not sent.
        let replaced = LogId::new(CommittedLeaderId::new(LATER - 1, 99), 2);
        assert!(store.entry_written(replaced).await.is_err());
    });
}

#[test]
fn a_disk_that_fails_is_known_to_all_that_wait_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let disk = FileSync::new(|_| Err(std::io::Error::other("no disk")));
    let mut store = Store::open(directory.path(), 4, disk).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.build().unwrap();
    runtime.block_on(async {
        let entry = Entry {
            log_id: id(0),
            payload: EntryPayload::Blank,
        };
        store.blocking_append([entry.clone()]).await.unwrap();
        let error = store.entry_written(entry.log_id).await.unwrap_err();
        assert!(error.to_string().contains("no disk"), "{error}");
        assert!(store.all_written().await.is_err());
        assert!(store.failed().await.contains("no disk"));
        assert!(store.blocking_append([entry]).await.is_err());
    });
}
