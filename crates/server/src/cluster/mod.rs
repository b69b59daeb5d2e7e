//! A server as part of a cluster: `docs/replication.md`, with threads, sockets and clocks.
//!
//! What is decided, the state machines of `crucial-cluster` decide; here it is done. The simulation's node
//! (`crates/sim`) is the same in one thread. In the order in which a request meets them:
//!
//! - `calls`: what happens to an object that its server shares with others.
//! - `share`: this server's part in one partition, and the requests that wait for it.
//! - `act`: does what the state machines say.
//! - `peers`: the connections to the other servers.
//! - `modules`: uploaded types; `inspect`: what it says of itself.
//! - `member`: views, leases, lives: what the control group decides; `group`: its library.
//!
//! **Locks.** An object in somebody's hands is no lock: nobody waits for it. Whoever has one may lock its share, for a
//! moment. Under a share's lock nothing is executed and nothing is written to a socket; what is to be done with
//! objects then is handed to their places, in the order in which it was decided.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crucial_cluster::{
    Command, Incarnation, Lease, Message, NodeId, PARTITIONS, PartitionId, Timing, View,
    ViewVersion,
};
use crucial_core::frame::peer;
use crucial_object::ObjectId;
use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};

mod act;
mod calls;
#[cfg(feature = "cluster")]
mod group;
mod inspect;
mod lifecycle;
mod member;
mod modules;
mod peers;
mod results;
mod share;

#[cfg(feature = "cluster")]
pub(crate) use group::Candidate;
#[cfg(feature = "cluster")]
pub use group::ClusterConfig;
pub(crate) use member::start;
pub(crate) use results::{Reply, Results};

use crate::connection::{Connection, Other};
use crate::service::Effects;
use member::RouteFrame;
use modules::Modules;
use peers::Peers;
use share::Share;

/// On how many servers an object can be.
pub const REPLICAS_MAX: u8 = 3;

/// On how many servers an object is kept if nobody says so.
pub const REPLICAS_OF_PERSISTENT: u8 = 2;
const REPLICAS_OF_RUN: u8 = 1;

/// The control group, as the rest of a server sees it.
pub trait Control: Send + Sync {
    /// Another server asks it something. The answer may come at any time.
    fn handle(
        &self,
        hello: &peer::Hello,
        question: bytes::Bytes,
        answer: Box<dyn FnOnce(Vec<u8>) + Send>,
    );
    /// Proposes changes of the view. They may be lost.
    fn propose(&self, commands: Vec<Command>);
    /// Which cluster; 0: not known yet.
    fn cluster(&self) -> u64;
    /// Who leads it, and who votes, as far as this server knows.
    fn voters(&self) -> (Option<NodeId>, Vec<NodeId>);
}

/// This server's part in its cluster.
pub(crate) struct Cluster {
    pub me: NodeId,
    incarnation: AtomicU64,
    lease_ms: u64,
    shares: Vec<Mutex<Share>>,
    /// The newest view that all shares have taken up.
    view: RwLock<Arc<View>>,
    /// Its version.
    version: AtomicU64,
    /// For clients, what of it concerns them.
    routes: RwLock<Arc<RouteFrame>>,
    lease: Mutex<Lease>,
    /// From `lease`, to be seen without its lock.
    lease_until_ms: AtomicU64,
    lease_view: AtomicU64,
    /// Answers that wait for a lease.
    withheld: Mutex<Vec<Reply>>,
    /// Requests that wait, in all shares.
    waiting: AtomicUsize,
    peers: Peers,
    desk: Desk,
    modules: Modules,
    control: std::sync::OnceLock<Arc<dyn Control>>,
}

/// Where the control group's thread leaves things for the cluster's own.
#[derive(Default)]
struct Desk {
    papers: Mutex<Papers>,
    changed: Condvar,
}

#[derive(Default)]
struct Papers {
    /// The newest view, if it is not taken up yet.
    view: Option<Arc<View>>,
    /// Requests that wait may be tried again.
    try_again: bool,
    stopped: bool,
}

fn timing(lease_ms: u64) -> Timing {
    Timing {
        repeat_ms: (lease_ms / 4).max(50),
        silence_ms: lease_ms * 4,
        ..Timing::default()
    }
}

impl Cluster {
    pub fn new(node: NodeId, lease_ms: u64) -> Cluster {
        let view = Arc::new(View::new(PARTITIONS));
        let cluster = Cluster {
            me: node,
            incarnation: AtomicU64::new(0),
            lease_ms,
            shares: Vec::new(),
            routes: RwLock::new(Arc::new(RouteFrame::of(&view, 0))),
            view: RwLock::new(view),
            version: AtomicU64::new(0),
            lease: Mutex::default(),
            lease_until_ms: AtomicU64::new(0),
            lease_view: AtomicU64::new(u64::MAX),
            withheld: Mutex::default(),
            waiting: AtomicUsize::new(0),
            peers: Peers::default(),
            desk: Desk::default(),
            modules: Modules::default(),
            control: std::sync::OnceLock::new(),
        };
        let share = |index| Mutex::new(cluster.new_share(PartitionId(index)));
        let shares = (0..PARTITIONS as u16).map(share).collect();
        Cluster { shares, ..cluster }
    }

    fn new_share(&self, id: PartitionId) -> Share {
        let me = (self.me, self.incarnation());
        Share::new(id, me, REPLICAS_MAX, timing(self.lease_ms))
    }

    pub fn incarnation(&self) -> Incarnation {
        Incarnation(self.incarnation.load(Ordering::Acquire))
    }

    pub fn view(&self) -> Arc<View> {
        self.view.read().clone()
    }

    /// The version of the newest view that all shares have taken up.
    pub fn version(&self) -> ViewVersion {
        ViewVersion(self.version.load(Ordering::Acquire))
    }

    /// Which cluster; 0: not known yet.
    pub fn cluster(&self) -> u64 {
        self.control.get().map_or(0, |control| control.cluster())
    }

    /// Whether this server may serve now.
    pub fn has_lease(&self, now_ms: u64) -> bool {
        now_ms < self.lease_until_ms.load(Ordering::Acquire)
            && self.version.load(Ordering::Acquire) >= self.lease_view.load(Ordering::Acquire)
    }

    fn partition(&self, object: &ObjectId) -> PartitionId {
        PartitionId::of(object, self.shares.len())
    }

    fn share(&self, id: PartitionId) -> MutexGuard<'_, Share> {
        self.shares[id.index()].lock()
    }

    fn ids(&self) -> impl Iterator<Item = PartitionId> + use<> {
        (0..self.shares.len() as u16).map(PartitionId)
    }

    /// Says something about a partition to another server.
    fn say(&self, to: NodeId, id: PartitionId, message: &Message, effects: &mut Effects<'_>) {
        let heard = self.modules.heard();
        self.peers.send(to, (id, heard), message, effects);
    }

    fn propose(&self, command: Command) {
        if let Some(control) = self.control.get() {
            control.propose(vec![command]);
        }
    }

    fn request_waits(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    fn requests_go_on(&self, count: usize) {
        // A new life begins with none, whatever was on its way in the last.
        let less = |waiting: usize| Some(waiting.saturating_sub(count));
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        let _ = self.waiting.fetch_update(set, get, less);
    }

    /// Requests that wait may be tried again.
    fn try_again(&self) {
        self.desk.papers.lock().try_again = true;
        self.wake();
    }

    fn wake(&self) {
        self.desk.changed.notify_one();
    }

    /// Whether there is no other server.
    #[cfg(feature = "cluster")]
    pub fn is_alone(&self) -> bool {
        self.view().members.keys().all(|node| *node == self.me)
    }

    /// Whether all servers are to stop.
    #[cfg(feature = "cluster")]
    pub fn nobody_stays(&self) -> bool {
        self.view().staying().next().is_none()
    }

    /// For how long a server may serve that is not heard.
    #[cfg(feature = "cluster")]
    pub fn lease(&self) -> std::time::Duration {
        std::time::Duration::from_millis(self.lease_ms)
    }

    pub fn disconnected(&self, connection: &Arc<Connection>, other: &Other) {
        self.peers.went(connection, other);
    }

    /// Ends the cluster's thread.
    pub fn stop(&self) {
        self.desk.papers.lock().stopped = true;
        self.wake();
        self.modules.stop();
        self.peers.close();
    }
}
