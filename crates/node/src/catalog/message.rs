//! Messages between servers about modules.

use crucial_proto::frame::{ModuleInfo, Pushed};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::ids::ModuleId;
use crate::replication::{Incarnation, NodeId, ViewVersion};

/// A server in one of its incarnations.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Peer {
    /// The server.
    pub node: NodeId,
    /// Its incarnation.
    pub incarnation: Incarnation,
}

/// Names what a coordinator does for a client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct OperationId {
    /// The server that runs the operation.
    pub coordinator: Peer,
    /// Counts the operations of that server, which runs one at a time.
    pub number: u64,
}

/// A step that all members are to prepare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Have the module's bytes on disk and its code, and find whether all objects can move to its types.
    Push {
        /// Whether its types may replace those of other modules.
        replace: bool,
    },
    /// Make no objects of the module's types, if none lives.
    Remove {
        /// The view with which the module came to its place.
        since: ViewVersion,
    },
}

/// A member has prepared a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Whether new objects are of all the module's types already.
    pub is_current: bool,
    /// The module, if the step was to push it.
    pub module: Option<ModuleInfo>,
}

/// A message between two servers about modules. All of them may be lost, repeated and overtaken by others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModuleMessage {
    /// A coordinator asks a member to prepare a step.
    Prepare {
        /// The operation.
        operation: OperationId,
        /// The coordinator's view. The answer must rest on the modules of this view or of a later one.
        seen: ViewVersion,
        /// The module.
        module: ModuleId,
        /// The number of its bytes.
        size: u64,
        /// The step to prepare.
        step: Step,
    },
    /// A member's answer.
    Prepared {
        /// The operation.
        operation: OperationId,
        /// As asked.
        seen: ViewVersion,
        /// Whether the member is ready, or why it refuses.
        answer: Result<Ready, String>,
    },
    /// A coordinator asks a member to say when it has installed a module that is in the view.
    Confirm {
        /// The operation.
        operation: OperationId,
        /// The view with which the module came to its place.
        since: ViewVersion,
    },
    /// A member's answer.
    Installed {
        /// The operation.
        operation: OperationId,
        /// The outcome for the member's objects; `None` if a later view has dropped the module, or if the member cannot
        /// use it.
        outcome: Option<Pushed>,
    },
    /// An operation is over: what was prepared for it is undone, as far as the view does not have it.
    Release {
        /// The operation.
        operation: OperationId,
        /// The view by which the coordinator knows. A member with an older one would undo what was decided.
        seen: ViewVersion,
    },
    /// A member has forgotten an operation.
    Released {
        /// The operation.
        operation: OperationId,
    },
    /// A server asks for a piece of a module.
    Fetch {
        /// The module.
        module: ModuleId,
        /// The first byte of the piece.
        offset: u64,
    },
    /// A piece of a module.
    Piece {
        /// The module.
        module: ModuleId,
        /// The first byte of the piece.
        offset: u64,
        /// The piece.
        bytes: ByteBuf,
    },
    /// The sender does not have the module.
    Absent {
        /// The module.
        module: ModuleId,
    },
}

impl ModuleMessage {
    /// About how many bytes it takes, without encoding it.
    pub fn size(&self) -> usize {
        const HEADER_BYTES: usize = 256;
        match self {
            ModuleMessage::Piece { bytes, .. } => HEADER_BYTES + bytes.len(),
            _ => HEADER_BYTES,
        }
    }
}
