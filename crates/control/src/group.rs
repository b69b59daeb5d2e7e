//! A server's part in the control group.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crucial_node::replication::{Command, Incarnation, NodeId, View};
use crucial_proto::frame::peer;
use openraft::{Raft, SnapshotPolicy};
use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::watch;

use crate::check::SNAPSHOT_BYTES_MAX;
use crate::config::{Config, ELECTION_HEARTBEATS, GroupError, GroupStatus, Member};
use crate::identity::Identity;
use crate::message::{Request, Response, encode};
use crate::network::Network;
use crate::shared::{Lasting, Queues, Rescued, Shared, Stage};
use crate::store::{Group as Types, Store};

/// Log entries after which a snapshot is made.
const ENTRIES_PER_SNAPSHOT: u64 = 2_000;

/// Log entries that are kept although a snapshot has them, for servers that lack only a few entries.
const ENTRIES_KEPT: u64 = 500;

/// Time limit for sending a part of a snapshot to another server.
const SNAPSHOT_TIMEOUT_MS: u64 = 5_000;

/// Time limit for making a snapshot.
const COMPACT_TIMEOUT: Duration = Duration::from_secs(30);

/// Time limit for each step of stopping.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// A server's part in the control group. Its threads end with [`stop`](Group::stop).
pub struct Group {
    lasting: Arc<Lasting>,
    present: Arc<RwLock<Present>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The group that the server has a part in, until it is rescued.
#[derive(Clone)]
struct Present {
    shared: Arc<Shared>,
    runtime: tokio::runtime::Handle,
}

impl Group {
    /// Starts the group's threads and begins to join. From here on the group handles requests; the server is a member
    /// when [`wait_until_member`](Group::wait_until_member) returns.
    ///
    /// # Errors
    ///
    /// [`GroupError::Directory`].
    pub fn new(
        config: Config,
        identity: Identity,
        member: Arc<dyn Member>,
    ) -> Result<Group, GroupError> {
        let store = Store::open(&config.directory, config.partitions, config.sync.clone())?;
        let lasting = Arc::new(Lasting {
            config,
            node: identity.node(),
            identity: Mutex::new(identity),
            member,
            store,
            leaving: AtomicBool::new(false),
            stage: (Mutex::new(Stage::Joining), Condvar::new()),
            stop: watch::channel(false).0,
            started: Instant::now(),
            granted_ms: AtomicU64::new(0),
        });
        let runtime = start_runtime()?;
        let (shared, queues) = Shared::new(lasting.clone(), None);
        let present = Arc::new(RwLock::new(Present {
            shared: shared.clone(),
            runtime: runtime.handle().clone(),
        }));
        let replaced = present.clone();
        let thread = crucial_local::thread::start("crucial-control", move || {
            run_groups(&replaced, runtime, shared, queues)
        });
        let thread = thread.map_err(|error| GroupError::Directory(error.to_string()))?;
        Ok(Group {
            lasting,
            present,
            thread: Mutex::new(Some(thread)),
        })
    }

    fn shared(&self) -> Arc<Shared> {
        self.present.read().shared.clone()
    }

    /// Blocks until the server is a member of its cluster.
    ///
    /// # Errors
    ///
    /// [`GroupError`]: the server will not become a member.
    pub fn wait_until_member(&self) -> Result<(), GroupError> {
        let (stage, changed) = &self.lasting.stage;
        let mut stage = stage.lock();
        loop {
            match &*stage {
                Stage::Joining => changed.wait(&mut stage),
                Stage::Failed(error) => return Err(error.clone()),
                Stage::Member | Stage::Left => return Ok(()),
            }
        }
    }

    /// Handles a request of another server. `respond` is called on a thread of the group, or dropped when the group
    /// stops.
    pub fn on_request(
        &self,
        hello: &peer::Hello,
        request: Bytes,
        respond: Box<dyn FnOnce(Vec<u8>) + Send>,
    ) {
        let Present { shared, runtime } = self.present.read().clone();
        let Ok(permit) = shared.permits.clone().try_acquire_owned() else {
            return respond(encode(&Response::Failed("too many requests".to_owned())));
        };
        let hello = *hello;
        runtime.spawn(async move {
            let (response, replacement) = shared.respond_to(&hello, &request).await;
            respond(encode(&response));
            drop(permit);
            if replacement.is_some() {
                // Ends this group, and its tasks.
                shared.replacement.send_replace(replacement);
            }
        });
    }

    /// Proposes changes of the view, without blocking. A proposal may be lost.
    pub fn propose(&self, commands: Vec<Command>) {
        if self.shared().proposals.try_send(commands).is_err() {
            tracing::debug!(
                "proposals are dropped: too many are waiting, or the group has stopped"
            );
        }
    }

    /// Begins to leave the cluster.
    pub fn leave(&self) {
        self.lasting.leaving.store(true, Ordering::Release);
    }

    /// Blocks until the server has left the cluster or the time is over, and returns whether it has left.
    pub fn wait_until_left(&self, patience: Duration) -> bool {
        let (stage, changed) = &self.lasting.stage;
        let mut stage = stage.lock();
        let is_part = |stage: &mut Stage| matches!(stage, Stage::Joining | Stage::Member);
        changed.wait_while_for(&mut stage, is_part, patience);
        matches!(*stage, Stage::Left)
    }

    /// Whether the server is a member or is joining.
    pub fn is_part(&self) -> bool {
        matches!(*self.lasting.stage.0.lock(), Stage::Joining | Stage::Member)
    }

    /// The server's cluster; 0 while it is not known.
    pub fn cluster(&self) -> u64 {
        self.shared().cluster.load(Ordering::Acquire)
    }

    /// The server's present incarnation.
    pub fn incarnation(&self) -> Incarnation {
        self.lasting.identity.lock().incarnation()
    }

    /// The newest view that this server knows.
    pub fn view(&self) -> Arc<View> {
        self.shared().view()
    }

    /// The state of the group as this server knows it.
    pub fn status(&self) -> GroupStatus {
        let shared = self.shared();
        let Some(raft) = shared.raft.get() else {
            return GroupStatus::default();
        };
        let metrics = raft.metrics().borrow().clone();
        let membership = metrics.membership_config.membership();
        // During a change of the voters, a decision needs a majority of the previous voters as well.
        let voters = membership.get_joint_config().first();
        GroupStatus {
            leader: metrics.current_leader.map(NodeId),
            voters: voters.into_iter().flatten().copied().map(NodeId).collect(),
            learners: membership.learner_ids().map(NodeId).collect(),
            term: metrics.current_term,
            applied: metrics.last_applied.map_or(0, |last| last.index),
            purged: metrics.purged.map_or(0, |last| last.index),
        }
    }

    /// Begins to make a snapshot, after which the log up to the snapshot is deleted. The group also makes snapshots by
    /// itself.
    pub fn compact(&self) {
        let Present { shared, runtime } = self.present.read().clone();
        let Some(raft) = shared.raft.get().cloned() else {
            return;
        };
        runtime.spawn(async move {
            let applied = raft.metrics().borrow().last_applied;
            let made = raft.trigger().snapshot().await;
            let Some(applied) = applied.filter(|_| made.is_ok()) else {
                return;
            };
            let wait = raft.wait(Some(COMPACT_TIMEOUT));
            if wait.snapshot(applied, "a snapshot").await.is_ok() {
                // If the group has stopped meanwhile, `broken` reports the cause.
                let _ = raft.trigger().purge_log(applied.index).await;
            }
        });
    }

    /// Ends the group's threads. Must not be called on these threads, and thus not by a [`Member`]'s functions.
    pub fn stop(&self) {
        self.lasting.stop.send_replace(true);
        if let Some(thread) = self.thread.lock().take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.stop();
    }
}

fn start_runtime() -> Result<tokio::runtime::Runtime, GroupError> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime
        .worker_threads(2)
        .thread_name("crucial-control")
        .enable_all()
        .build()
        .map_err(|error| {
            let reason = crucial_local::system_reason(&error);
            GroupError::Directory(format!("cannot start threads: {reason}"))
        })
}

/// Runs a group, and each one that takes its place, until the server stops.
fn run_groups(
    present: &RwLock<Present>,
    mut runtime: tokio::runtime::Runtime,
    mut shared: Arc<Shared>,
    mut queues: Queues,
) {
    loop {
        let replacement = runtime.block_on(shared.clone().run(queues));
        // From here on no task of the group runs, unless it blocks.
        runtime.shutdown_timeout(STOP_TIMEOUT);
        let Some(rescued) = replacement else { return };
        let lasting = shared.lasting.clone();
        lasting.store.publish();
        (shared, queues) = Shared::new(lasting, Some(rescued));
        runtime = match start_runtime() {
            Ok(runtime) => runtime,
            Err(error) => {
                shared.set_stage(Stage::Failed(error.clone()));
                return shared.member.on_failure(error);
            }
        };
        *present.write() = Present {
            shared: shared.clone(),
            runtime: runtime.handle().clone(),
        };
    }
}

impl Shared {
    /// Handles a request of a server after its handshake. The server may belong to another cluster. Also gives the group
    /// that is to take this one's place when the response is sent.
    async fn respond_to(&self, hello: &peer::Hello, request: &[u8]) -> (Response, Option<Rescued>) {
        let failed = |why: &str| (Response::Failed(why.to_owned()), None);
        let own = self.cluster.load(Ordering::Acquire);
        if own == 0 || hello.cluster != own {
            return failed("the contacted server is in another cluster, or has not joined one yet");
        }
        match postcard::from_bytes::<Request>(request) {
            Ok(Request::Heartbeat { node, .. }) if node.0 != hello.from => {
                failed("the heartbeat names another server than the handshake")
            }
            Ok(Request::Rescue { confirmed }) => self.on_rescue(confirmed).await,
            Ok(Request::Adopt { cluster, by }) => self.on_adopt(hello.from, cluster, by).await,
            Ok(request) => (self.respond(request).await, None),
            Err(_) => failed("malformed request: do both servers run the same version?"),
        }
    }

    /// Runs until the server stops, or another group is to take this one's place.
    async fn run(self: Arc<Self>, queues: Queues) -> Option<Rescued> {
        let mut stop = self.stop.subscribe();
        let mut replacement = self.replacement.subscribe();
        let work = async {
            let ended = self.work(queues).await;
            if self.replacing.load(Ordering::Acquire) {
                return;
            }
            if let Err(error) = ended {
                self.set_stage(Stage::Failed(error.clone()));
                self.member.on_failure(error);
            }
        };
        // Requests of other servers are handled until the server stops, even if its own membership has ended.
        let work = async {
            work.await;
            std::future::pending::<()>().await;
        };
        let next = tokio::select! {
            () = work => None,
            _ = stop.wait_for(|stop| *stop) => None,
            next = replacement.wait_for(|next| next.is_some()) => next.ok().and_then(|next| next.clone()),
        };
        if let Some(raft) = self.raft.get() {
            // The process does not wait longer for the library.
            let _ = tokio::time::timeout(STOP_TIMEOUT, raft.shutdown()).await;
        }
        next
    }

    async fn work(self: &Arc<Self>, queues: Queues) -> Result<(), GroupError> {
        let network = Network(self.links.clone(), self.store.clone());
        let (log, machine) = (self.store.clone(), self.store.clone());
        let config = Arc::new(self.raft_config()?);
        let raft = Raft::new(self.node.0, config, network, log, machine).await;
        let raft = raft.map_err(|error| GroupError::Stopped(error.to_string()))?;
        // Set here only, so that setting cannot fail.
        let _ = self.raft.set(raft.clone());
        tokio::spawn(self.clone().run_leadership_checks(queues.leadership_checks));
        tokio::spawn(self.clone().lead());
        tokio::spawn(self.clone().pace_elections());
        tokio::spawn(self.clone().arrange_all());
        tokio::spawn(self.clone().send_proposals(queues.proposals));
        let membership = async {
            self.find_cluster(&raft).await?;
            self.run_incarnations(&raft).await
        };
        tokio::select! {
            ended = membership => ended,
            error = broken(&raft) => Err(error),
            why = self.store.failed() => {
                // Without a disk the server leads nobody, and votes for nobody.
                let _ = tokio::time::timeout(STOP_TIMEOUT, raft.shutdown()).await;
                Err(GroupError::Stopped(why))
            }
        }
    }

    fn raft_config(&self) -> Result<openraft::Config, GroupError> {
        let heartbeat_interval = self.config.timing.raft_heartbeat_ms();
        let config = openraft::Config {
            cluster_name: "crucial".to_owned(),
            heartbeat_interval,
            election_timeout_min: ELECTION_HEARTBEATS.start * heartbeat_interval,
            election_timeout_max: ELECTION_HEARTBEATS.end * heartbeat_interval,
            install_snapshot_timeout: SNAPSHOT_TIMEOUT_MS,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(ENTRIES_PER_SNAPSHOT),
            max_in_snapshot_log_to_keep: ENTRIES_KEPT,
            // In one piece.
            snapshot_max_chunk_size: SNAPSHOT_BYTES_MAX as u64,
            ..openraft::Config::default()
        };
        let config = config.validate();
        config.map_err(|error| GroupError::Stopped(error.to_string()))
    }
}

/// Waits until the consensus library has stopped by itself, and returns the cause.
async fn broken(raft: &Raft<Types>) -> GroupError {
    let mut metrics = raft.metrics();
    loop {
        if let Err(error) = &metrics.borrow_and_update().running_state {
            return GroupError::Stopped(error.to_string());
        }
        if metrics.changed().await.is_err() {
            return GroupError::Stopped("the consensus library's thread has ended".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Timing;
    use crate::journal::FileSync;
    use crucial_node::replication::Grant;

    #[derive(Default)]
    struct Notes {
        failed: Mutex<Option<String>>,
        changed: Condvar,
    }

    impl Member for Notes {
        fn now_ms(&self) -> u64 {
            0
        }
        fn on_cluster(&self, _: u64) {}
        fn on_view(&self, _: Arc<View>) {}
        fn on_grant(&self, _: Grant) {}
        fn on_evicted(&self) {}
        fn on_begin(&self, _: Incarnation) {}
        fn on_failure(&self, error: GroupError) {
            *self.failed.lock() = Some(error.to_string());
            self.changed.notify_all();
        }
    }

    #[test]
    fn an_unwritable_disk_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let identity = Identity::open(directory.path()).unwrap();
        let config = Config {
            directory: directory.path().to_owned(),
            address: "127.0.0.1:1".to_owned(),
            join: Vec::new(),
            expect: None,
            partitions: 4,
            timing: Timing::default(),
            join_patience: Duration::from_secs(10),
            sync: FileSync::default(),
        };
        let notes = Arc::new(Notes::default());
        let group = Group::new(config, identity, notes.clone()).unwrap();
        group.wait_until_member().unwrap();
        group.lasting.store.break_journal();
        let nobody = Command::Leave {
            node: NodeId(1),
            incarnation: Incarnation(1),
        };
        group.propose(vec![nobody]);
        let mut failed = notes.failed.lock();
        let patience = Duration::from_secs(30);
        notes
            .changed
            .wait_while_for(&mut failed, |failed| failed.is_none(), patience);
        let error = failed.clone().expect("the failure is reported");
        let path = directory.path().join("journal");
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert!(error.contains("is not full"), "{error}");
        drop(failed);
        assert!(!group.wait_until_left(Duration::from_secs(10)));
    }
}
