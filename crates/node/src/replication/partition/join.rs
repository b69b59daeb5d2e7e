//! A node on its way to an assignment, or to a lower rank.

use std::collections::VecDeque;

use crucial_object::ObjectId;

use crate::replication::ids::{Incarnation, NodeId};
use crate::replication::mutant::Mutant;
use crate::replication::replica::Replica;
use crate::replication::view::Assignment;

/// A join that goes on.
pub(super) struct Join {
    pub node: NodeId,
    pub incarnation: Incarnation,
    /// The rank that it is to have.
    pub rank: u8,
    /// No other join of this incarnation has it.
    pub number: u32,
    pub stage: Stage,
}

pub(super) enum Stage {
    /// The join waits for the list of objects.
    Listing,
    /// These are to be sent, of which the first `asked` are asked for.
    Copying {
        left: VecDeque<ObjectId>,
        asked: usize,
    },
    /// Everything is sent, up to this entry.
    Sent(u64),
}

impl Join {
    pub fn new(number: u32, assignment: Assignment, incarnation: Incarnation) -> Join {
        Join {
            node: assignment.node,
            incarnation,
            rank: assignment.rank,
            number,
            stage: Stage::Listing,
        }
    }

    /// Whether changes of an object go to the joining node though it has no assignment for it.
    pub fn follows(&self, replica: &Replica) -> bool {
        replica.replicas > self.rank
            && replica.copied == self.number
            && !Mutant::NoChangesWhileCopying.is_planted()
    }

    /// Whether its acknowledgement is needed.
    pub fn is_required(&self) -> bool {
        matches!(self.stage, Stage::Sent(_))
    }
}
