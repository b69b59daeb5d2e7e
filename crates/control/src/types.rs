//! What the control group decides, and its types for the consensus library.

use std::io::Cursor;

use crucial_node::replication::{Command, Refusal, ViewVersion};
use openraft::BasicNode;
use serde::{Deserialize, Serialize};

use crate::runtime::Runtime;

openraft::declare_raft_types!(
    /// The types of the control group for the consensus library.
    pub Group:
        D = Decision,
        R = Vec<Result<ViewVersion, Refusal>>,
        NodeId = u64,
        Node = BasicNode,
        Entry = openraft::Entry<Group>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = Runtime,
);

/// The content of a log entry: commands that are committed together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The only term in which the commands have an effect; `None`: any term. An expiry rests on the knowledge of one
    /// term's leader, which the next leader does not have.
    pub term: Option<u64>,
    /// The commands.
    pub commands: Vec<Command>,
}

impl Decision {
    pub(crate) fn in_term(self, term: u64) -> Vec<Command> {
        match self.term.is_none_or(|wanted| wanted == term) {
            true => self.commands,
            false => Vec::new(),
        }
    }
}
