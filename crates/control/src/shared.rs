//! The state that the parts of a server's membership in the control group share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crucial_node::replication::{Command, NodeId, View};
use openraft::Raft;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::config::{Config, GroupError, Member};
use crate::identity::Identity;
use crate::link::Links;
use crate::store::{Group as Types, Store};
use crate::term::LeaderTerm;

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

/// The state of a server's part in the control group.
pub(crate) struct Shared {
    pub config: Config,
    pub node: NodeId,
    pub identity: Mutex<Identity>,
    pub cluster: AtomicU64,
    pub member: Arc<dyn Member>,
    pub store: Store,
    pub links: Arc<Links>,
    pub raft: tokio::sync::OnceCell<Raft<Types>>,
    /// `None` while another server leads.
    pub leader_term: Mutex<Option<LeaderTerm>>,
    pub leaving: AtomicBool,
    pub stage: (Mutex<Stage>, Condvar),
    pub proposals: mpsc::Sender<Vec<Command>>,
    pub leadership_checks: mpsc::UnboundedSender<LeadershipCheck>,
    /// Limits the requests that are handled at a time.
    pub permits: Arc<Semaphore>,
    pub views: watch::Receiver<Arc<View>>,
    pub stop: watch::Sender<bool>,
    pub started: Instant,
}

impl Shared {
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
