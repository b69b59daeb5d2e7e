//! A server's part in the control group.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crucial_core::frame::peer;
use crucial_node::replication::{Command, NodeId, View};
use openraft::{Raft, SnapshotPolicy};
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::config::{Config, GroupError, GroupStatus, Member, PROPOSALS_MAX};
use crate::identity::Identity;
use crate::link::Links;
use crate::network::Network;
use crate::question::{Answer, Question, encode};
use crate::shared::{Doubt, Shared, Stage};
use crate::store::{Group as Types, Store};

/// Questions of other servers that are being answered. What is above is not.
const QUESTIONS_MAX: usize = 4_096;

/// A snapshot is made after so many entries of the log.
const ENTRIES_PER_SNAPSHOT: u64 = 2_000;

/// Entries that are kept behind a snapshot, for those that are only a little behind.
const ENTRIES_KEPT: u64 = 500;

/// How long a part of a snapshot may take to get to another server.
const SNAPSHOT_TIMEOUT_MS: u64 = 5_000;

/// How long a snapshot may take to be made.
const COMPACT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the end may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// A server's part in the control group. Its threads end with [`stop`](Group::stop).
pub struct Group {
    shared: Arc<Shared>,
    runtime: tokio::runtime::Handle,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Group {
    /// Begins: from here on it can be asked. It has joined when
    /// [`wait_until_member`](Group::wait_until_member) returns.
    ///
    /// # Errors
    ///
    /// [`GroupError::Directory`].
    pub fn new(
        config: Config,
        identity: Identity,
        member: Arc<dyn Member>,
    ) -> Result<Group, GroupError> {
        let store = Store::open(&config.directory, config.partitions)?;
        let node = identity.node();
        let (proposals, proposed) = mpsc::channel(PROPOSALS_MAX);
        let (doubts, doubted) = mpsc::unbounded_channel();
        let links = Arc::new(Links::new(node, identity.incarnation()));
        links.set_cluster(identity.cluster());
        let shared = Arc::new(Shared {
            config,
            node,
            cluster: AtomicU64::new(0),
            identity: Mutex::new(identity),
            member,
            views: store.views(),
            store,
            links,
            raft: tokio::sync::OnceCell::new(),
            reign: Mutex::default(),
            leaving: AtomicBool::new(false),
            stage: (Mutex::new(Stage::Joining), Condvar::new()),
            proposals,
            doubts,
            questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            stop: watch::channel(false).0,
            started: Instant::now(),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("crucial-control")
            .enable_all()
            .build()
            .map_err(|error| GroupError::Directory(format!("no threads: {error}")))?;
        let handle = runtime.handle().clone();
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("crucial-control".to_owned())
            .spawn(move || {
                runtime.block_on(theirs.run(proposed, doubted));
                runtime.shutdown_timeout(STOP_TIMEOUT);
            })
            .map_err(|error| GroupError::Directory(format!("no thread: {error}")))?;
        Ok(Group {
            shared,
            runtime: handle,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Blocks until the server is a member of its cluster.
    ///
    /// # Errors
    ///
    /// [`GroupError`]; then it never will be.
    pub fn wait_until_member(&self) -> Result<(), GroupError> {
        let (stage, changed) = &self.shared.stage;
        let mut stage = stage.lock();
        loop {
            match &*stage {
                Stage::Joining => changed.wait(&mut stage),
                Stage::Failed(error) => return Err(error.clone()),
                Stage::Member | Stage::Dismissed => return Ok(()),
            }
        }
    }

    /// Another server asks something. It is answered on a thread of the group's, if at all.
    pub fn handle(
        &self,
        hello: &peer::Hello,
        question: Bytes,
        answer: Box<dyn FnOnce(Vec<u8>) + Send>,
    ) {
        let Ok(permit) = self.shared.questions.clone().try_acquire_owned() else {
            return answer(encode(&Answer::Failed("too many questions".to_owned())));
        };
        let (shared, hello) = (self.shared.clone(), *hello);
        self.runtime.spawn(async move {
            let said = shared.answer_to(&hello, &question).await;
            answer(encode(&said));
            drop(permit);
        });
    }

    /// Proposes changes of the view. They may be lost. It does not block.
    pub fn propose(&self, commands: Vec<Command>) {
        if self.shared.proposals.try_send(commands).is_err() {
            tracing::debug!("proposals were lost: too many, or the group has stopped");
        }
    }

    /// Begins to leave.
    pub fn leave(&self) {
        self.shared.leaving.store(true, Ordering::Release);
    }

    /// Blocks until the server has left, or for so long; whether it has.
    pub fn wait_dismissed(&self, patience: Duration) -> bool {
        let (stage, changed) = &self.shared.stage;
        let mut stage = stage.lock();
        let is_part = |stage: &mut Stage| matches!(stage, Stage::Joining | Stage::Member);
        changed.wait_while_for(&mut stage, is_part, patience);
        matches!(*stage, Stage::Dismissed)
    }

    /// Whether the server is a member, or is to be one.
    pub fn is_part(&self) -> bool {
        matches!(*self.shared.stage.0.lock(), Stage::Joining | Stage::Member)
    }

    /// Which cluster; 0: not known yet.
    pub fn cluster(&self) -> u64 {
        self.shared.cluster.load(Ordering::Acquire)
    }

    /// The newest view that this server knows.
    pub fn view(&self) -> Arc<View> {
        self.shared.view()
    }

    /// What this server knows of the group.
    pub fn status(&self) -> GroupStatus {
        let Some(raft) = self.shared.raft.get() else {
            return GroupStatus::default();
        };
        let metrics = raft.metrics().borrow().clone();
        let membership = metrics.membership_config.membership();
        // The others count when the change is done: until then nothing can be decided without these.
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

    /// Begins to make a snapshot of what was decided, so that the log before it can go. That is also done by itself, now and
    /// then.
    pub fn compact(&self) {
        let Some(raft) = self.shared.raft.get().cloned() else {
            return;
        };
        self.runtime.spawn(async move {
            let applied = raft.metrics().borrow().last_applied;
            let made = raft.trigger().snapshot().await;
            let Some(applied) = applied.filter(|_| made.is_ok()) else {
                return;
            };
            let wait = raft.wait(Some(COMPACT_TIMEOUT));
            if wait.snapshot(applied, "a snapshot").await.is_ok() {
                // If it has stopped meanwhile, that is told elsewhere.
                let _ = raft.trigger().purge_log(applied.index).await;
            }
        });
    }

    /// Ends its threads. Not to be called on them, so by no [`Member`].
    pub fn stop(&self) {
        self.shared.stop.send_replace(true);
        if let Some(thread) = self.thread.lock().take() {
            // If it has panicked it has said so.
            let _ = thread.join();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// Answers a server that has said who it is. It may be anybody.
    async fn answer_to(&self, hello: &peer::Hello, question: &[u8]) -> Answer {
        let own = self.cluster.load(Ordering::Acquire);
        if own == 0 || hello.cluster != own {
            return Answer::Failed("it is part of another cluster, or of none yet".to_owned());
        }
        match postcard::from_bytes::<Question>(question) {
            Ok(Question::Heartbeat { node, .. }) if node.0 != hello.from => {
                Answer::Failed("a heartbeat of another server".to_owned())
            }
            Ok(question) => self.answer(question).await,
            Err(error) => Answer::Failed(format!("no question: {error}")),
        }
    }

    async fn run(
        self: Arc<Self>,
        proposed: mpsc::Receiver<Vec<Command>>,
        doubted: mpsc::UnboundedReceiver<Doubt>,
    ) {
        let mut stop = self.stop.subscribe();
        let work = async {
            if let Err(error) = self.work(proposed, doubted).await {
                self.set_stage(Stage::Failed(error.clone()));
                self.member.failed(error);
            }
        };
        // What others ask is answered until the server stops, even if its own work has ended.
        let work = async {
            work.await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = work => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        if let Some(raft) = self.raft.get() {
            // It is ending.
            let _ = tokio::time::timeout(STOP_TIMEOUT, raft.shutdown()).await;
        }
    }

    async fn work(
        self: &Arc<Self>,
        proposed: mpsc::Receiver<Vec<Command>>,
        doubted: mpsc::UnboundedReceiver<Doubt>,
    ) -> Result<(), GroupError> {
        let network = Network(self.links.clone());
        let (log, machine) = (self.store.clone(), self.store.clone());
        let config = Arc::new(self.raft_config()?);
        let raft = Raft::new(self.node.0, config, network, log, machine).await;
        let raft = raft.map_err(|error| GroupError::Stopped(error.to_string()))?;
        // Nobody else sets it.
        let _ = self.raft.set(raft.clone());
        tokio::spawn(self.clone().confirm_all(doubted));
        tokio::spawn(self.clone().lead());
        tokio::spawn(self.clone().arrange_all());
        tokio::spawn(self.clone().carry(proposed));
        let life = async {
            self.find_cluster(&raft).await?;
            self.live(&raft).await
        };
        tokio::select! {
            ended = life => ended,
            error = broken(&raft) => Err(error),
        }
    }

    fn raft_config(&self) -> Result<openraft::Config, GroupError> {
        let heartbeat_interval = self.config.timing.raft_heartbeat_ms();
        let config = openraft::Config {
            cluster_name: "crucial".to_owned(),
            heartbeat_interval,
            election_timeout_min: 4 * heartbeat_interval,
            election_timeout_max: 7 * heartbeat_interval,
            install_snapshot_timeout: SNAPSHOT_TIMEOUT_MS,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(ENTRIES_PER_SNAPSHOT),
            max_in_snapshot_log_to_keep: ENTRIES_KEPT,
            ..openraft::Config::default()
        };
        let config = config.validate();
        config.map_err(|error| GroupError::Stopped(error.to_string()))
    }
}

/// Ends when the consensus library has stopped by itself, and says why.
async fn broken(raft: &Raft<Types>) -> GroupError {
    let mut metrics = raft.metrics();
    loop {
        if let Err(error) = &metrics.borrow_and_update().running_state {
            return GroupError::Stopped(error.to_string());
        }
        if metrics.changed().await.is_err() {
            return GroupError::Stopped("its thread has ended".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Timing;
    use crucial_node::replication::{Grant, Incarnation};

    #[derive(Default)]
    struct Notes {
        failed: Mutex<Option<String>>,
        changed: Condvar,
    }

    impl Member for Notes {
        fn now_ms(&self) -> u64 {
            0
        }
        fn view(&self, _: Arc<View>) {}
        fn granted(&self, _: Grant) {}
        fn over(&self) {}
        fn begin(&self, _: Incarnation) {}
        fn failed(&self, error: GroupError) {
            *self.failed.lock() = Some(error.to_string());
            self.changed.notify_all();
        }
    }

    #[test]
    fn a_disk_that_can_not_be_written_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let identity = Identity::open(directory.path()).unwrap();
        let config = Config {
            directory: directory.path().to_owned(),
            address: "127.0.0.1:1".to_owned(),
            join: Vec::new(),
            partitions: 4,
            timing: Timing::default(),
            join_patience: Duration::from_secs(10),
        };
        let notes = Arc::new(Notes::default());
        let group = Group::new(config, identity, notes.clone()).unwrap();
        group.wait_until_member().unwrap();
        group.shared.store.break_journal();
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
        let error = failed.clone().expect("it is told");
        let path = directory.path().join("journal");
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert!(error.contains("has room"), "{error}");
        drop(failed);
        assert!(!group.wait_dismissed(Duration::from_secs(10)));
    }
}
