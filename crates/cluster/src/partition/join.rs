//! A node on its way to a seat, or to a lower level.

use std::collections::VecDeque;

use crucial_object::ObjectId;

use super::stream::{NO_SEAT, Outgoing};
use super::{Action, Partition, Reign, Role};
use crate::mutant::Mutant;
use crate::{Entry, Incarnation, Lifecycle, NodeId, Replica, Seat};

/// A join that goes on.
pub(super) struct Join {
    pub node: NodeId,
    pub incarnation: Incarnation,
    /// The level that it is to have.
    pub level: u8,
    /// No other join of this process's life has it.
    pub number: u64,
    pub stage: Stage,
}

pub(super) enum Stage {
    /// It waits for the list of objects.
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
    pub fn new(number: u64, seat: Seat, incarnation: Incarnation) -> Join {
        Join {
            node: seat.node,
            incarnation,
            level: seat.level,
            number,
            stage: Stage::Listing,
        }
    }

    /// Whether changes of an object go to the joining node though it has no seat for it.
    pub fn follows(&self, replica: &Replica) -> bool {
        replica.replicas > self.level
            && replica.copied == self.number
            && !Mutant::NoChangesWhileCopying.is_planted()
    }

    /// Whether its acknowledgement is needed.
    pub fn is_required(&self) -> bool {
        matches!(self.stage, Stage::Sent(_))
    }
}

impl<R> Reign<R> {
    pub(super) fn begin_join(&mut self, join: Join, done: Vec<Lifecycle>, now_ms: u64) {
        let stream = self
            .streams
            .entry(join.node)
            .or_insert_with(|| Outgoing::new(NO_SEAT, now_ms));
        if stream.level == NO_SEAT {
            stream.push(Entry::Reset { level: join.level });
            if !Mutant::NoRequestsInJoin.is_planted() {
                stream.push(Entry::Done(done));
            }
        }
        self.join = Some(join);
    }

    /// It comes to nothing.
    pub(super) fn end_join(&mut self) {
        let Some(join) = self.join.take() else { return };
        let Some(stream) = self.streams.get_mut(&join.node) else {
            return;
        };
        if stream.level == NO_SEAT {
            stream.give_up();
        } else {
            let level = stream.level;
            stream.push(Entry::Level { level });
        }
    }

    /// Whether the joining node has everything.
    pub(super) fn is_joined(&self) -> bool {
        let Some(join) = &self.join else { return false };
        match (&join.stage, self.streams.get(&join.node)) {
            (Stage::Sent(upto), Some(stream)) => {
                stream.acknowledged() >= *upto || Mutant::SeatBeforeAcknowledgement.is_planted()
            }
            _ => false,
        }
    }

    /// Asks for the next objects, as many as may be on their way.
    pub(super) fn go_on_copying(&mut self, window: usize, out: &mut Vec<Action<R>>) {
        let Some(join) = &mut self.join else { return };
        let Some(stream) = self.streams.get_mut(&join.node) else {
            return;
        };
        let Stage::Copying { left, asked } = &mut join.stage else {
            return;
        };
        if left.is_empty() && *asked == 0 {
            if stream.level != NO_SEAT {
                stream.push(Entry::Level { level: join.level });
            }
            join.stage = Stage::Sent(stream.last());
            return;
        }
        let room = window.saturating_sub(stream.len() + *asked);
        let next: Vec<_> = left.drain(..room.min(left.len())).collect();
        *asked += next.len();
        if !next.is_empty() {
            out.push(Action::Copy(next));
        }
    }
}

impl<R> Partition<R> {
    /// The objects that there are, for the join that asked for the list.
    pub fn copy_list(&mut self, objects: Vec<ObjectId>, now_ms: u64, out: &mut Vec<Action<R>>) {
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        if let Some(join) = &mut reign.join
            && matches!(join.stage, Stage::Listing)
        {
            join.stage = Stage::Copying {
                left: objects.into(),
                asked: 0,
            };
        }
        self.go_on_copying(out);
        self.flush(now_ms, out);
    }

    /// Sends one object, as it is now, to the nodes that lack it. `None`: it was deleted meanwhile.
    pub fn copy(&mut self, object: ObjectId, replica: Option<&mut Replica>) {
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        let Some(join) = &mut reign.join else { return };
        if let Stage::Copying { asked, .. } = &mut join.stage {
            *asked = asked.saturating_sub(1);
        }
        let (Some(replica), Some(stream)) = (replica, reign.streams.get_mut(&join.node)) else {
            return;
        };
        // A seat has it, in full or as a stub, and gets only what its new level adds.
        let is_there = stream.level != NO_SEAT
            && (replica.replicas > stream.level || replica.replicas <= join.level);
        if !is_there
            && replica.copied != join.number
            && stream.install(object, replica, join.level).is_some()
        {
            replica.copied = join.number;
        }
    }

    pub(super) fn go_on_copying(&mut self, out: &mut Vec<Action<R>>) {
        let window = self.timing.window;
        if let Role::Primary(reign) = &mut self.role {
            reign.go_on_copying(window, out);
        }
    }
}
