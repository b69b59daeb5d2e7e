//! The requests and responses between servers of the control group.

use crucial_node::replication::{Command, Grant, Incarnation, NodeId, Refusal, ViewVersion};
use openraft::LogId;
use openraft::error::{InstallSnapshotError, RaftError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

use crate::rescue::Rescue;
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

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("requests and responses are plain data")
}
