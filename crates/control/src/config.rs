//! Configuration, errors and status of a server's part in the control group.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crucial_node::replication::{Grant, Incarnation, NodeId, View};

use crate::journal::{FileSync, JournalError};
use crate::store::OpenError;

/// Most proposals that wait to be sent to the leader. Further ones are dropped.
pub(crate) const PROPOSALS_MAX: usize = 16_384;

/// Time limit for the leader's response to a proposal.
pub(crate) const PROPOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How many of the consensus library's heartbeats a voter waits before it begins an election.
pub(crate) const ELECTION_HEARTBEATS: std::ops::Range<u64> = 4..7;

/// The configuration of a server's part in the control group.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory of the journal and the identity.
    pub directory: PathBuf,
    /// The address at which other servers and clients reach this server, `HOST:PORT`.
    pub address: String,
    /// Servers of the cluster to join; a name may resolve to several addresses. If the list is empty, the server founds
    /// a cluster, or continues in the cluster of its directory.
    pub join: Vec<String>,
    /// How many servers the cluster has when it is founded; `None`: as many as `join` names.
    pub expect: Option<usize>,
    /// The number of partitions of a new cluster.
    pub partitions: usize,
    /// Leases and heartbeats.
    pub timing: Timing,
    /// How long the server tries to join before it gives up.
    pub join_patience: Duration,
    /// How the journal is synced.
    pub sync: FileSync,
}

/// Leases and heartbeats, in milliseconds. All servers must have the same values.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long a server may serve after sending a heartbeat.
    pub lease_ms: u64,
    /// Largest difference that the clocks of two servers may accumulate during a lease.
    pub drift_ms: u64,
    /// Interval between two heartbeats of a server.
    pub heartbeat_ms: u64,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing::of_lease(1000)
    }
}

impl Timing {
    /// Returns the times that fit a lease of this length.
    pub fn of_lease(lease_ms: u64) -> Timing {
        Timing {
            lease_ms,
            drift_ms: (lease_ms / 10).max(20),
            heartbeat_ms: (lease_ms / 5).max(20),
        }
    }

    /// After this time without a heartbeat, a server's lease has certainly expired.
    pub(crate) fn wait_ms(&self) -> u64 {
        self.lease_ms + self.drift_ms
    }

    /// Time limit of a heartbeat request. Four of them fit into a lease, so that a server that first tries a dead
    /// server still finds the leader before its own lease expires.
    pub(crate) fn heartbeat_timeout(&self) -> Duration {
        Duration::from_millis((self.lease_ms / 4).max(50))
    }

    /// Interval between two heartbeats of the consensus library's leader.
    pub(crate) fn raft_heartbeat_ms(&self) -> u64 {
        (self.lease_ms / 10).max(20)
    }
}

/// Receives the group's decisions. The functions are called on the group's threads: they must not block, and must not
/// [stop](crate::Group::stop) the group.
pub trait Member: Send + Sync + 'static {
    /// The server's monotonic clock, in milliseconds.
    fn now_ms(&self) -> u64;
    /// The server belongs to this cluster, perhaps without being a member yet.
    fn on_cluster(&self, cluster: u64);
    /// A newer view was committed. Intermediate views may be skipped.
    fn on_view(&self, view: Arc<View>);
    /// A lease was granted. The lease begins at the time at which the heartbeat was sent.
    fn on_grant(&self, grant: Grant);
    /// This incarnation was evicted. All its state is invalid.
    fn on_evicted(&self);
    /// A new incarnation begins. Called before the incarnation joins.
    fn on_begin(&self, incarnation: Incarnation);
    /// The group cannot continue on this server, for example because the disk is full. The server must stop.
    fn on_failure(&self, error: GroupError);
}

/// Why a server cannot join or stay in the control group.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// The server's directory cannot be used.
    #[error("{0}")]
    Directory(String),
    /// No cluster was found.
    #[error("found no cluster to join within {patience:?}: {tried}")]
    Nobody {
        /// How long the server searched.
        patience: Duration,
        /// The addresses that were tried, with the results.
        tried: String,
    },
    /// The cluster was found, but has no leader.
    #[error(
        "the cluster did not accept this server within {patience:?}: {last}; a majority of the voters must run and reach \
         each other"
    )]
    NoLeader {
        /// How long the server tried to join.
        patience: Duration,
        /// The result of the last attempt.
        last: String,
    },
    /// The server's directory belongs to another cluster.
    #[error(
        "this server's directory belongs to the cluster {own:016x}, but {address} belongs to the cluster {theirs:016x}: \
         join a server of the directory's cluster, or use another --data directory. If the cluster {theirs:016x} was rescued \
         (`crucial cluster rescue`) from this server's cluster, nothing of this directory counts any more: use an empty one"
    )]
    AnotherCluster {
        /// The cluster of the directory.
        own: u64,
        /// The cluster of the contacted server.
        theirs: u64,
        /// The address of the contacted server.
        address: String,
    },
    /// The server belongs to a cluster, but knows no server of it.
    #[error(
        "this server's directory belongs to the cluster {own:016x}, but its journal, which lists the cluster's servers, \
         is missing: name one of them with --join, or use another --data directory to found a new cluster"
    )]
    Lonely {
        /// The cluster of the directory.
        own: u64,
    },
    /// Another server runs with the same identity.
    #[error(
        "the same identity twice: another incarnation of {node} was still a member after {patience:?}, which is longer \
         than its lease, so that another server must run with a copy of this server's --data directory; give each \
         server its own directory"
    )]
    Twice {
        /// The node id that both servers have.
        node: NodeId,
        /// How long this server waited for the end of the other.
        patience: Duration,
    },
    /// The cluster refuses the server.
    #[error("the cluster refuses this server: {0}")]
    Refused(String),
    /// The consensus library has stopped.
    #[error(
        "the control group has stopped on this server: {0}; check that the --data directory is writable and not full, and \
         restart the server"
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

/// The state of the group as this server knows it.
#[derive(Clone, Debug, Default)]
pub struct GroupStatus {
    /// The leader.
    pub leader: Option<NodeId>,
    /// The voters; while they are being changed, the previous voters.
    pub voters: Vec<NodeId>,
    /// The members that receive the log and do not vote.
    pub learners: Vec<NodeId>,
    /// The leader's term.
    pub term: u64,
    /// The index of the last log entry that this server's view contains.
    pub applied: u64,
    /// The index of the last log entry that is kept only in a snapshot.
    pub purged: u64,
}
