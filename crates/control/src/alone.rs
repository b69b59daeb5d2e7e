//! A control group of one server, for tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crucial_node::replication::{Command, Grant, Incarnation, NodeId, View};
use crucial_proto::frame::peer;
use parking_lot::Mutex;

use crate::config::{Config, GroupError, Member, Timing};
use crate::group::Group;
use crate::identity::Identity;
use crate::journal::FileSync;
use crate::message::{Request, Response, encode};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const PARTITIONS: usize = 4;

#[derive(Default)]
pub(crate) struct Notes {
    pub failed: Mutex<Option<String>>,
    pub views: AtomicUsize,
    pub grants: AtomicUsize,
}

impl Member for Notes {
    fn now_ms(&self) -> u64 {
        0
    }
    fn on_cluster(&self, _: u64) {}
    fn on_view(&self, _: Arc<View>) {
        self.views.fetch_add(1, Ordering::Relaxed);
    }
    fn on_grant(&self, _: Grant) {
        self.grants.fetch_add(1, Ordering::Relaxed);
    }
    fn on_evicted(&self) {}
    fn on_begin(&self, _: Incarnation) {}
    fn on_failure(&self, error: GroupError) {
        *self.failed.lock() = Some(error.to_string());
    }
}

/// A group of one server.
pub(crate) struct Alone {
    pub group: Group,
    pub notes: Arc<Notes>,
    pub node: NodeId,
    _directory: tempfile::TempDir,
}

impl Alone {
    pub fn start() -> Alone {
        Alone::start_on(FileSync::default())
    }

    /// On a disk that is synced in this way.
    pub fn start_on(sync: FileSync) -> Alone {
        let directory = tempfile::tempdir().unwrap();
        let identity = Identity::open(directory.path()).unwrap();
        let node = identity.node();
        let config = Config {
            directory: directory.path().to_owned(),
            address: "127.0.0.1:1".to_owned(),
            join: Vec::new(),
            expect: None,
            partitions: PARTITIONS,
            timing: Timing::of_lease(200),
            join_patience: PATIENCE,
            sync,
        };
        let notes = Arc::new(Notes::default());
        let group = Group::new(config, identity, notes.clone()).unwrap();
        group.wait_until_member().unwrap();
        Alone {
            group,
            notes,
            node,
            _directory: directory,
        }
    }

    pub fn ask(&self, request: &[u8]) -> Option<Response> {
        // No response: the handler has panicked, or the group has ended.
        let response = self.send(request).recv_timeout(PATIENCE).ok()?;
        postcard::from_bytes(&response).ok()
    }

    /// Sends a request, and returns where the response will be.
    pub fn send(&self, request: &[u8]) -> mpsc::Receiver<Vec<u8>> {
        let hello = peer::Hello {
            cluster: self.group.cluster(),
            from: 99,
            incarnation: 1,
            to: None,
        };
        let (sender, response) = mpsc::channel();
        let respond = move |bytes: Vec<u8>| drop(sender.send(bytes));
        let bytes = bytes::Bytes::copy_from_slice(request);
        self.group.on_request(&hello, bytes, Box::new(respond));
        response
    }

    /// The group decides.
    pub fn decides(&self) {
        let started = Instant::now();
        let forget = Request::Propose(vec![Command::Forget {
            seen: Default::default(),
        }]);
        loop {
            match self.ask(&encode(&forget)) {
                Some(Response::Proposed(results)) if results.iter().all(Result::is_ok) => return,
                other => {
                    let kind = other.map(|other| matches!(other, Response::NotLeader(_)));
                    let failed = self.notes.failed.lock().clone();
                    assert_eq!(failed, None, "the group has stopped");
                    assert!(started.elapsed() < PATIENCE, "nothing is decided: {kind:?}");
                }
            }
            // A proposal is repeated until there is a leader: the library announces none to those outside.
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
