//! What servers ask each other about the control group.

use crucial_cluster::{Command, Grant, Incarnation, NodeId, Refusal, ViewVersion};
use openraft::error::{InstallSnapshotError, RaftError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

use crate::store::Group as Types;

/// A question.
#[derive(Serialize, Deserialize)]
pub(crate) enum Question {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<u64>),
    Snapshot(InstallSnapshotRequest<Types>),
    /// A server lives.
    Heartbeat {
        node: NodeId,
        incarnation: Incarnation,
        sent_ms: u64,
    },
    Propose(Vec<Command>),
}

/// The answer.
#[derive(Serialize, Deserialize)]
pub(crate) enum Answer {
    Append(Result<AppendEntriesResponse<u64>, RaftError<u64>>),
    Vote(Result<VoteResponse<u64>, RaftError<u64>>),
    Snapshot(Result<InstallSnapshotResponse<u64>, RaftError<u64, InstallSnapshotError>>),
    Grant(Grant),
    /// The server is no member, or not in this life.
    Over {
        /// It has a vote in the group still, and is to go on with that until another has it.
        votes: bool,
    },
    Proposed(Vec<Result<ViewVersion, Refusal>>),
    /// Another server leads, perhaps the one there.
    Elsewhere(Option<String>),
    /// It could not be answered.
    Failed(String),
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("questions and answers are plain data")
}
