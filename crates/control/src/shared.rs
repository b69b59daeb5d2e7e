//! The state that the parts of a server's membership in the control group share.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crucial_node::replication::{Command, LeaderTerm, NodeId, View};
use openraft::Raft;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::config::{Config, GroupError, Member, PROPOSALS_MAX};
use crate::identity::Identity;
use crate::link::Links;
use crate::store::{Group as Types, Store};

/// Most requests of other servers that are handled at a time. Further ones fail.
const REQUESTS_MAX: usize = 4_096;

/// The progress of a server's membership.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    Joining,
    Member,
    /// The server was a member, asked to leave, and was released.
    Left,
    Failed(GroupError),
}

/// A request to find out, by a round of heartbeats, whether this server still leads (the library's read-index). Receives
/// the result.
pub(crate) type LeadershipCheck = oneshot::Sender<bool>;

/// What stays when a server's control group is replaced by another one ([`rescue`](crate::rescue)).
pub(crate) struct Lasting {
    pub config: Config,
    pub node: NodeId,
    pub identity: Mutex<Identity>,
    pub member: Arc<dyn Member>,
    pub store: Store,
    pub leaving: AtomicBool,
    pub stage: (Mutex<Stage>, Condvar),
    pub stop: watch::Sender<bool>,
    pub started: Instant,
    /// When the last lease was granted to this server, by the group's clock; 0: never.
    pub granted_ms: AtomicU64,
}

/// A server's part in a rescued group, which it goes on with in its present incarnation.
#[derive(Clone, Debug)]
pub(crate) struct Rescued {
    /// The address of the server that was rescued.
    pub by: String,
}

/// The state of a server's part in the control group.
pub(crate) struct Shared {
    pub lasting: Arc<Lasting>,
    pub cluster: AtomicU64,
    pub links: Arc<Links>,
    pub raft: tokio::sync::OnceCell<Raft<Types>>,
    /// `None` while another server leads.
    pub leader_term: Mutex<Option<LeaderTerm>>,
    pub proposals: mpsc::Sender<Vec<Command>>,
    pub leadership_checks: mpsc::UnboundedSender<LeadershipCheck>,
    /// Limits the requests that are handled at a time.
    pub permits: Arc<Semaphore>,
    pub views: watch::Receiver<Arc<View>>,
    /// `None`: the group was not rescued since this process began.
    pub rescued: Option<Rescued>,
    /// Another group takes this one's place, which ends without being an error.
    pub replacing: AtomicBool,
    /// The group that takes this one's place. The sender is kept with it, so that there is one at most.
    pub replacement: watch::Sender<Option<Rescued>>,
}

impl Deref for Shared {
    type Target = Lasting;

    fn deref(&self) -> &Lasting {
        &self.lasting
    }
}

/// The receiving ends of a group's queues.
pub(crate) struct Queues {
    pub proposals: mpsc::Receiver<Vec<Command>>,
    pub leadership_checks: mpsc::UnboundedReceiver<LeadershipCheck>,
}

impl Shared {
    /// The state of a group that begins.
    pub fn new(lasting: Arc<Lasting>, rescued: Option<Rescued>) -> (Arc<Shared>, Queues) {
        let (proposals, proposed) = mpsc::channel(PROPOSALS_MAX);
        let (leadership_checks, checks) = mpsc::unbounded_channel();
        let (incarnation, cluster) = {
            let identity = lasting.identity.lock();
            (identity.incarnation(), identity.cluster())
        };
        let links = Arc::new(Links::new(lasting.node, incarnation));
        links.set_cluster(cluster);
        let shared = Shared {
            cluster: AtomicU64::new(0),
            views: lasting.store.views(),
            links,
            raft: tokio::sync::OnceCell::new(),
            leader_term: Mutex::default(),
            proposals,
            leadership_checks,
            permits: Arc::new(Semaphore::new(REQUESTS_MAX)),
            rescued,
            replacing: AtomicBool::new(false),
            replacement: watch::channel(None).0,
            lasting,
        };
        let queues = Queues {
            proposals: proposed,
            leadership_checks: checks,
        };
        (Arc::new(shared), queues)
    }

    pub fn set_stage(&self, next: Stage) {
        let (stage, changed) = &self.stage;
        *stage.lock() = next;
        changed.notify_all();
    }

    /// The group's own monotonic clock.
    pub fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    pub fn view(&self) -> Arc<View> {
        self.views.borrow().clone()
    }

    pub fn set_cluster(&self, cluster: u64) -> Result<(), GroupError> {
        let mut identity = self.identity.lock();
        if identity.cluster() != cluster {
            identity.belong_to(cluster)?;
        }
        self.links.set_cluster(cluster);
        self.member.on_cluster(cluster);
        self.cluster.store(cluster, Ordering::Release);
        Ok(())
    }
}
