//! The requests and responses between servers of the control group.

use crucial_node::replication::{Command, Grant, Incarnation, NodeId, Refusal, ViewVersion};
use openraft::LogId;
use openraft::error::{InstallSnapshotError, RaftError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

use crate::store::Group as Types;

/// A request to another server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<u64>),
    Snapshot(InstallSnapshotRequest<Types>),
    /// A server is alive and asks for a lease.
    Heartbeat {
        node: NodeId,
        incarnation: Incarnation,
        sent_ms: u64,
    },
    Propose(Vec<Command>),
    /// How much of the group's decisions the server has.
    Progress,
    /// The server is to go on without the voters that do not answer; without confirmation it only says what that means.
    Rescue {
        confirmed: bool,
    },
    /// The server is to go on in this cluster, which the server at the address has rescued.
    Adopt {
        cluster: u64,
        by: String,
    },
}

/// The response to a request.
#[derive(Serialize, Deserialize)]
pub(crate) enum Response {
    Append(Result<AppendEntriesResponse<u64>, RaftError<u64>>),
    Vote(Result<VoteResponse<u64>, RaftError<u64>>),
    Snapshot(Result<InstallSnapshotResponse<u64>, RaftError<u64, InstallSnapshotError>>),
    Grant(Grant),
    /// This incarnation of the server is not a member.
    Evicted {
        /// The server still has a vote in the group, and must keep voting until another server has taken it over.
        votes: bool,
    },
    Proposed(Vec<Result<ViewVersion, Refusal>>),
    /// This server does not lead; the address is the leader's, if it is known.
    NotLeader(Option<String>),
    /// The request failed, for this reason.
    Failed(String),
    /// The last entry of the server's log.
    Progress(Option<LogId<u64>>),
    Rescue(Rescue),
    Adopted,
}

/// What a rescue means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rescue {
    /// The cluster that is given up.
    pub cluster: u64,
    /// The new cluster; 0: nothing was done yet.
    pub rescued: u64,
    /// The servers that go on: id and address.
    pub survivors: Vec<(u64, String)>,
    /// The servers that do not: id and address.
    pub lost: Vec<(u64, String)>,
    /// The number of partitions.
    pub partitions: usize,
    /// Partitions of which no server is left that is known to have everything: all of their objects are lost.
    pub partitions_lost: usize,
    /// For how long the server has had no lease, in milliseconds; `None`: since it started. What the others have decided
    /// and acknowledged without it in this time is unknown.
    pub silent_ms: Option<u64>,
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("requests and responses are plain data")
}
