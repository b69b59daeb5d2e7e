//! How a node joins: the copies that it gets, and when it has everything.

use crucial_object::ObjectId;

use super::join::{Join, Stage};
use super::state::{Action, Backoff, Partition, Primary, Role, Timing};
use super::stream::{Outgoing, UNASSIGNED};
use crate::replication::mutant::Mutant;
use crate::replication::{Entry, Image, Lifecycle, NodeId, Replica};

/// With more bytes on their way to a joining node, no more objects are copied for it. (Each partition that moves has as
/// many on their way.)
const COPIES_BYTES_MAX: usize = 1 << 20;

impl<R> Primary<R> {
    pub(super) fn begin_join(&mut self, join: Join, done: Vec<Lifecycle>, now_ms: u64) {
        let stream = self
            .streams
            .entry(join.node)
            .or_insert_with(|| Outgoing::new(UNASSIGNED, now_ms));
        if stream.rank == UNASSIGNED {
            stream.hear_from(now_ms);
            stream.push(Entry::Reset { rank: join.rank });
            if !Mutant::NoRequestsInJoin.is_planted() {
                stream.push(Entry::Done(done));
            }
        }
        self.join = Some(join);
    }

    /// Ends the join of a node that acknowledges nothing or too little, or that cannot have everything. It may join again,
    /// after a pause.
    pub(super) fn end_join_for_now(&mut self, now_ms: u64, timing: &Timing) {
        let Some(join) = &self.join else { return };
        let last = self
            .backoff
            .get(&join.node)
            .map_or(0, |backoff| backoff.pause_ms);
        let (least_ms, most_ms) = timing.pauses_ms();
        let pause_ms = match Mutant::JoinsAtOnce.is_planted() {
            true => 0,
            false => (2 * last).clamp(least_ms, most_ms),
        };
        let backoff = Backoff {
            until_ms: now_ms + pause_ms,
            pause_ms,
        };
        self.backoff.insert(join.node, backoff);
        self.end_join();
    }

    /// Ends the join without an assignment.
    pub(super) fn end_join(&mut self) {
        let Some(join) = self.join.take() else { return };
        let Some(stream) = self.streams.get_mut(&join.node) else {
            return;
        };
        if stream.rank == UNASSIGNED {
            stream.give_up();
            stream.lacking_mut().clear();
        } else {
            let rank = stream.rank;
            stream.push(Entry::Rank { rank });
        }
    }

    /// Whether the node that is to be the primary lacks an object, which would be lost then. A server that leaves loses it
    /// in any case.
    pub(super) fn would_lose(&self, rank: u8, node: NodeId, is_leaving: bool) -> bool {
        let stream = self.streams.get(&node);
        let lacks = stream.is_some_and(|stream| !stream.lacking().is_empty());
        rank == 0 && lacks && !is_leaving && !Mutant::JoinsLacking.is_planted()
    }

    /// Whether the joining node has everything.
    pub(super) fn is_joined(&self) -> bool {
        let Some(join) = &self.join else { return false };
        match (&join.stage, self.streams.get(&join.node)) {
            (Stage::Sent(upto), Some(stream)) => {
                stream.acknowledged() >= *upto || Mutant::AssignBeforeAcknowledgement.is_planted()
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
            if stream.rank != UNASSIGNED {
                stream.push(Entry::Rank { rank: join.rank });
            }
            join.stage = Stage::Sent(stream.last());
            return;
        }
        let room = match stream.bytes() < COPIES_BYTES_MAX {
            true => window
                .saturating_sub(stream.len() + *asked)
                .min(join.ahead.saturating_sub(*asked)),
            false => 0,
        };
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
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        if let Some(join) = &mut primary.join
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

    /// Looks at one object that was asked for (`None`: it was deleted meanwhile). Gives the rank of the image that the joining
    /// node needs, if it lacks the object: [`copy_with`](Partition::copy_with).
    pub fn copy(&mut self, replica: Option<&Replica>) -> Option<u8> {
        let rank = self.copy_rank(replica);
        if rank.is_none() {
            self.on_copied(0);
        }
        rank
    }

    fn copy_rank(&self, replica: Option<&Replica>) -> Option<u8> {
        let Role::Primary(primary) = &self.role else {
            return None;
        };
        let join = primary.join.as_ref()?;
        let (replica, stream) = (replica?, primary.streams.get(&join.node)?);
        // An assigned node has it, in full or as a stub, and gets only what its new rank adds.
        let is_there = stream.rank != UNASSIGNED
            && (replica.replicas > stream.rank || replica.replicas <= join.rank);
        (!is_there && replica.copied != join.number).then_some(join.rank)
    }

    /// One that was asked for is copied, as this number of bytes.
    fn on_copied(&mut self, bytes: usize) {
        let window = self.timing.window;
        if let Role::Primary(primary) = &mut self.role
            && let Some(join) = &mut primary.join
            && let Stage::Copying { asked, .. } = &mut join.stage
        {
            *asked = asked.saturating_sub(1);
            join.ahead = match bytes * join.ahead < COPIES_BYTES_MAX {
                true => (join.ahead + 1).min(window),
                false => (join.ahead / 2).max(1),
            };
        }
    }

    /// Sends one object, as it is now, to the joining node.
    pub fn copy_with(&mut self, object: ObjectId, replica: &mut Replica, image: Image) {
        let mut bytes = 0;
        if let Role::Primary(primary) = &mut self.role
            && let Some(join) = &primary.join
            && let Some(stream) = primary.streams.get_mut(&join.node)
        {
            let before = stream.bytes();
            stream.send(object, replica, image);
            bytes = stream.bytes() - before;
            replica.copied = join.number;
        }
        self.on_copied(bytes);
    }

    pub(super) fn go_on_copying(&mut self, out: &mut Vec<Action<R>>) {
        let window = self.timing.window;
        if let Role::Primary(primary) = &mut self.role {
            primary.go_on_copying(window, out);
        }
    }
}
