//! A node on its way to an assignment, or to a lower rank.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crucial_object::ObjectId;

use crate::replication::ids::{Incarnation, NodeId};
use crate::replication::mutant::Mutant;
use crate::replication::replica::Replica;
use crate::replication::view::Assignment;
use crate::sync::AtomicUsize;

/// In how many partitions of a server a node joins at the same time. So what is on its way to those that join is this often
/// what one of them may have.
const JOINS_MAX: usize = 64;

/// The joins that go on at a server, in all of its partitions.
#[derive(Default)]
pub struct JoinSlots(AtomicUsize);

/// A join that goes on.
pub(super) struct JoinSlot(Arc<JoinSlots>);

impl JoinSlots {
    /// One more join, if there may be another.
    pub(super) fn take(self: &Arc<Self>) -> Option<JoinSlot> {
        let more = |count| (count < JOINS_MAX).then_some(count + 1);
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok().then(|| JoinSlot(self.clone()))
    }
}

impl Drop for JoinSlot {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A join that goes on.
pub(super) struct Join {
    pub node: NodeId,
    pub incarnation: Incarnation,
    /// The rank that it is to have.
    pub rank: u8,
    /// No other join of this incarnation has it.
    pub number: u32,
    pub stage: Stage,
    /// How many objects may be asked for at once. More and more while they are small, since their sizes are not known before.
    pub ahead: usize,
    _slot: JoinSlot,
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
    pub fn new(
        number: u32,
        (assignment, incarnation): (Assignment, Incarnation),
        slot: JoinSlot,
    ) -> Join {
        Join {
            node: assignment.node,
            incarnation,
            rank: assignment.rank,
            number,
            stage: Stage::Listing,
            ahead: 1,
            _slot: slot,
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
