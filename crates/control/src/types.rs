//! What the control group decides, and its types for the consensus library.

use std::io::Cursor;

use crucial_node::replication::{Decision, Refusal, ViewVersion};
use openraft::BasicNode;

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
