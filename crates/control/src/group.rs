//! A server's part in the control group.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crucial_cluster::{Command, Grant, Incarnation, NodeId, View};
use crucial_core::frame::peer;
use openraft::{Raft, SnapshotPolicy};
use parking_lot::{Condvar, Mutex};
use tokio::sync::{mpsc, watch};

use crate::identity::Identity;
use crate::journal::JournalError;
use crate::leader::Reign;
use crate::link::Links;
use crate::network::Network;
use crate::question::{Answer, Question, encode};
use crate::store::{Group as Types, OpenError, Store};

/// How a server is part of the control group.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where journal and identity are.
    pub directory: PathBuf,
    /// Where other servers and clients reach this one, `HOST:PORT`.
    pub address: String,
    /// Servers of the cluster to join; a name may stand for several. Empty: it founds one, or goes on with its own.
    pub join: Vec<String>,
    /// How many partitions a new cluster has.
    pub partitions: usize,
    /// Times.
    pub timing: Timing,
    /// For how long it tries to join.
    pub join_patience: Duration,
}

/// Times, in milliseconds; the same at all servers.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long a server may serve after a heartbeat.
    pub lease_ms: u64,
    /// How far clocks of two servers may run apart while a lease lasts.
    pub drift_ms: u64,
    /// Between two heartbeats of a server.
    pub heartbeat_ms: u64,
}

impl Timing {
    /// The times that go with a lease.
    pub fn of_lease(lease_ms: u64) -> Timing {
        Timing {
            lease_ms,
            drift_ms: (lease_ms / 10).max(20),
            heartbeat_ms: (lease_ms / 5).max(20),
        }
    }

    /// After so much silence a server's lease has ended for certain.
    pub(crate) fn wait_ms(&self) -> u64 {
        self.lease_ms + self.drift_ms
    }
}

/// What a server does with what the group decides. Called on the group's threads, which must not be held up.
pub trait Member: Send + Sync + 'static {
    /// The server's clock, in milliseconds: never back.
    fn now_ms(&self) -> u64;
    /// A newer view. Some in between may be left out.
    fn view(&self, view: Arc<View>);
    /// A lease, from the time of a heartbeat on.
    fn granted(&self, grant: Grant);
    /// This life was taken for dead. What it held is nobody's.
    fn over(&self);
    /// A life begins; called before it joins.
    fn begin(&self, incarnation: Incarnation);
    /// The group can not go on here: the disk is full, say. The server is to stop.
    fn failed(&self, error: GroupError);
}

/// Why a server is not, or can not stay, part of the control group.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// Its directory can not be used.
    #[error("{0}")]
    Directory(String),
    /// No cluster was found.
    #[error("no cluster to join was found within {patience:?}: {tried}")]
    Nobody {
        /// How long it looked.
        patience: Duration,
        /// What was tried, and what came of it.
        tried: String,
    },
    /// Its directory is another cluster's.
    #[error(
        "this server's directory belongs to the cluster {own:016x}, and {address} to the cluster {theirs:016x}: join a server of its own \
         cluster, or give it another --data directory"
    )]
    AnotherCluster {
        /// Of the directory.
        own: u64,
        /// Of the server there.
        theirs: u64,
        /// Who was asked.
        address: String,
    },
    /// The group does not take it in.
    #[error("the cluster does not take this server in: {0}")]
    Refused(String),
    /// The consensus library has stopped.
    #[error(
        "the control group has stopped at this server: {0}; see that its --data directory is writable and has room, and start it again"
    )]
    Stopped(String),
}

impl From<JournalError> for GroupError {
    fn from(error: JournalError) -> Self {
        GroupError::Directory(error.to_string())
    }
}

impl From<OpenError> for GroupError {
    fn from(error: OpenError) -> Self {
        GroupError::Directory(error.to_string())
    }
}

/// What a server knows of the group.
#[derive(Clone, Debug, Default)]
pub struct GroupStatus {
    /// Who leads.
    pub leader: Option<NodeId>,
    /// Who votes.
    pub voters: Vec<NodeId>,
    /// Who only listens.
    pub learners: Vec<NodeId>,
    /// Counts elections.
    pub term: u64,
}

/// Where a server is on its way.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    Joining,
    Member,
    /// It has left.
    Dismissed,
    Failed(GroupError),
}

/// A server's part in the control group. Its threads end with [`stop`](Group::stop).
pub struct Group {
    shared: Arc<Shared>,
    runtime: tokio::runtime::Handle,
    thread: Mutex<Option<JoinHandle<()>>>,
}

pub(crate) struct Shared {
    pub config: Config,
    pub node: NodeId,
    pub identity: Mutex<Identity>,
    pub cluster: AtomicU64,
    pub member: Arc<dyn Member>,
    pub store: Store,
    pub links: Arc<Links>,
    pub raft: tokio::sync::OnceCell<Raft<Types>>,
    /// If this server leads.
    pub reign: Mutex<Option<Reign>>,
    pub leaving: AtomicBool,
    stage: (Mutex<Stage>, Condvar),
    pub proposals: mpsc::UnboundedSender<Vec<Command>>,
    pub stop: watch::Sender<bool>,
    pub started: Instant,
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
        let (proposals, proposed) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            config,
            node,
            cluster: AtomicU64::new(0),
            identity: Mutex::new(identity),
            member,
            store,
            links: Arc::new(Links::new(node)),
            raft: tokio::sync::OnceCell::new(),
            reign: Mutex::default(),
            leaving: AtomicBool::new(false),
            stage: (Mutex::new(Stage::Joining), Condvar::new()),
            proposals,
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
                runtime.block_on(theirs.run(proposed));
                runtime.shutdown_timeout(Duration::from_secs(1));
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

    /// Another server asks something.
    pub fn handle(
        &self,
        hello: &peer::Hello,
        question: Bytes,
        answer: Box<dyn FnOnce(Vec<u8>) + Send>,
    ) {
        let (shared, own) = (self.shared.clone(), self.cluster());
        let is_ours = hello.cluster == own || own == 0;
        self.runtime.spawn(async move {
            let said = match postcard::from_bytes::<Question>(&question) {
                Ok(_) if !is_ours => Answer::Failed("another cluster's server asks".to_owned()),
                Ok(question) => shared.answer(question).await,
                Err(error) => Answer::Failed(format!("no question: {error}")),
            };
            answer(encode(&said));
        });
    }

    /// Proposes changes of the view. They may be lost.
    pub fn propose(&self, commands: Vec<Command>) {
        // It is closed only when the group has stopped.
        let _ = self.shared.proposals.send(commands);
    }

    /// Begins to leave.
    pub fn leave(&self) {
        self.shared.leaving.store(true, Ordering::Release);
    }

    /// Blocks until the server has left, or for so long; whether it has.
    pub fn wait_dismissed(&self, patience: Duration) -> bool {
        let (stage, changed) = &self.shared.stage;
        let mut stage = stage.lock();
        let is_member = |stage: &mut Stage| matches!(stage, Stage::Joining | Stage::Member);
        !changed
            .wait_while_for(&mut stage, is_member, patience)
            .timed_out()
    }

    /// Which cluster; 0: not known yet.
    pub fn cluster(&self) -> u64 {
        self.shared.cluster.load(Ordering::Acquire)
    }

    /// What this server knows of the group.
    pub fn status(&self) -> GroupStatus {
        let Some(raft) = self.shared.raft.get() else {
            return GroupStatus::default();
        };
        let metrics = raft.metrics().borrow().clone();
        let membership = metrics.membership_config.membership();
        GroupStatus {
            leader: metrics.current_leader.map(NodeId),
            voters: membership.voter_ids().map(NodeId).collect(),
            learners: membership.learner_ids().map(NodeId).collect(),
            term: metrics.current_term,
        }
    }

    /// Ends its threads.
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
    pub fn set_stage(&self, next: Stage) {
        let (stage, changed) = &self.stage;
        *stage.lock() = next;
        changed.notify_all();
    }

    /// The group's own clock.
    pub fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    pub fn view(&self) -> Arc<View> {
        self.store.views().borrow().clone()
    }

    pub fn set_cluster(&self, cluster: u64) -> Result<(), GroupError> {
        let mut identity = self.identity.lock();
        if identity.cluster() != cluster {
            identity.belong_to(cluster)?;
        }
        self.links.set_cluster(cluster);
        self.cluster.store(cluster, Ordering::Release);
        Ok(())
    }

    async fn run(self: Arc<Self>, proposed: mpsc::UnboundedReceiver<Vec<Command>>) {
        let mut stop = self.stop.subscribe();
        let work = async {
            if let Err(error) = self.work(proposed).await {
                self.set_stage(Stage::Failed(error.clone()));
                self.member.failed(error);
            }
        };
        tokio::select! {
            () = work => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        if let Some(raft) = self.raft.get() {
            // It is ending.
            let _ = tokio::time::timeout(Duration::from_secs(1), raft.shutdown()).await;
        }
    }

    async fn work(
        self: &Arc<Self>,
        proposed: mpsc::UnboundedReceiver<Vec<Command>>,
    ) -> Result<(), GroupError> {
        let heartbeat_interval = (self.config.timing.lease_ms / 10).max(20);
        let config = openraft::Config {
            cluster_name: "crucial".to_owned(),
            heartbeat_interval,
            election_timeout_min: 4 * heartbeat_interval,
            election_timeout_max: 7 * heartbeat_interval,
            install_snapshot_timeout: 5_000,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(2_000),
            max_in_snapshot_log_to_keep: 500,
            ..openraft::Config::default()
        };
        let config = config
            .validate()
            .map_err(|error| GroupError::Stopped(error.to_string()))?;
        // Others answer who is of their cluster.
        self.links.set_cluster(self.identity.lock().cluster());
        let network = Network(self.links.clone());
        let (log, machine) = (self.store.clone(), self.store.clone());
        let raft = Raft::new(self.node.0, Arc::new(config), network, log, machine).await;
        let raft = raft.map_err(|error| GroupError::Stopped(error.to_string()))?;
        // Nobody else sets it.
        let _ = self.raft.set(raft.clone());
        self.find_cluster(&raft).await?;
        tokio::spawn(self.clone().lead());
        tokio::spawn(self.clone().carry(proposed));
        self.live(&raft).await
    }
}
