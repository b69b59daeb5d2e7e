//! How a server is part of the control group, and what can go wrong.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crucial_cluster::{Grant, Incarnation, NodeId, View};

use crate::journal::JournalError;
use crate::store::OpenError;

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

impl Default for Timing {
    fn default() -> Timing {
        Timing::of_lease(1000)
    }
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

    /// How long an answer to a heartbeat may take. Four of them fit into a lease: whoever asks one that is dead still
    /// finds the leader before its own lease has ended.
    pub(crate) fn heartbeat_timeout(&self) -> Duration {
        Duration::from_millis((self.lease_ms / 4).max(50))
    }

    /// Between two heartbeats of the consensus library's leader.
    pub(crate) fn raft_heartbeat_ms(&self) -> u64 {
        (self.lease_ms / 10).max(20)
    }
}

/// What a server does with what the group decides. Called on the group's threads, which must not be held up, and in
/// which the group can not be [stopped](crate::Group::stop).
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
    /// Its cluster was found, and nobody decides there.
    #[error(
        "the cluster did not take this server in within {patience:?}: {last}; a majority of the servers that vote must run and reach each other"
    )]
    NoLeader {
        /// How long it tried.
        patience: Duration,
        /// What came of the last try.
        last: String,
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
    /// It belongs to a cluster of which it knows nobody.
    #[error(
        "this server's directory belongs to the cluster {own:016x}, but says nothing of its servers: say by --join where one of them is, or give it another --data directory to found a new cluster"
    )]
    Lonely {
        /// Of the directory.
        own: u64,
    },
    /// Another server is it.
    #[error(
        "the same identity twice: {node} is a member of the cluster, and still was after {patience:?}, which is longer than its lease: another server runs with a copy of this one's --data directory; give each a directory of its own"
    )]
    Twice {
        /// Who.
        node: NodeId,
        /// How long it waited for the other's end.
        patience: Duration,
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
    /// Who votes; while that is being changed, who did before.
    pub voters: Vec<NodeId>,
    /// Who only listens.
    pub learners: Vec<NodeId>,
    /// Counts elections.
    pub term: u64,
    /// The last entry of the log that this server's view contains.
    pub applied: u64,
    /// The last entry that it has in a snapshot only.
    pub purged: u64,
}
