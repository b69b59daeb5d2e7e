//! A new primary brings the others to what it has.

use std::collections::BTreeSet;

use crucial_object::ObjectId;

use super::assignment::served;
use super::state::{Action, Comparison, Partition, Phase, Role};
use super::stream::{Outgoing, UNASSIGNED};
use crate::replication::{Entry, Holding, Image, NodeId, Replica};

impl<R> Partition<R> {
    /// A node has said what it holds, but for the objects `open`, where it still executes what came before. `all`: the
    /// objects that are here, or that the node has named. Gives those that are to be compared now, each in its line:
    /// [`reconcile`](Partition::reconcile), then [`compared`](Partition::compared).
    pub fn compare(
        &mut self,
        node: NodeId,
        (all, open): (BTreeSet<ObjectId>, &BTreeSet<ObjectId>),
        now_ms: u64,
        out: &mut Vec<Action<R>>,
    ) -> Vec<ObjectId> {
        let Role::Primary(primary) = &mut self.role else {
            return Vec::new();
        };
        let Phase::Collecting {
            missing, is_open, ..
        } = &mut primary.phase
        else {
            return Vec::new();
        };
        let Some(there) = missing.get_mut(&node) else {
            return Vec::new();
        };
        there.is_whole |= open.is_empty();
        let is_first = there.left.is_none();
        let left = there.left.get_or_insert(all);
        let compared = left.iter().filter(|object| !open.contains(object));
        let compared = compared.copied().collect();
        if is_first && missing.values().all(|there| there.left.is_some()) {
            out.push(served(std::mem::replace(is_open, true)));
        }
        self.go_on_collecting(node, now_ms, out);
        compared
    }

    /// Compares one object, as it is here (`None`: not at all), with what a backup holds of it. Gives the rank of the image
    /// that the backup needs, if it needs one: [`reconcile_with`](Partition::reconcile_with).
    pub fn reconcile(
        &mut self,
        node: NodeId,
        object: ObjectId,
        here: Option<&Replica>,
        there: Option<Holding>,
    ) -> Option<u8> {
        let stream = self.uncompared(node, &object)?;
        let rank = stream.rank;
        if let Some(replica) = here {
            return (there != Some(replica.holding(object, rank))).then_some(rank);
        }
        there?;
        let index = stream.push(Entry::Drop {
            object,
            done: None,
            tombstones: Vec::new(),
        });
        // Nobody is told that the object is not there before the backup knows.
        self.await_node(node, index, None);
        None
    }

    /// Brings a backup to one object as it is here.
    pub fn reconcile_with(
        &mut self,
        node: NodeId,
        object: ObjectId,
        replica: &mut Replica,
        image: Image,
    ) {
        let Some(stream) = self.uncompared(node, &object) else {
            return;
        };
        let index = stream.send(object, replica, image);
        self.await_node(node, index, Some((object, replica.replicas)));
        replica.issued = self.issued;
    }

    fn await_node(&mut self, node: NodeId, index: u64, of: Option<(ObjectId, u8)>) {
        if let Role::Primary(primary) = &mut self.role {
            primary.await_all(vec![(node, index)], of);
            self.issued += 1;
        }
    }

    /// The stream to a backup with which an object is not compared yet. Once is enough, however often it was asked for: what
    /// is sent later follows by itself.
    fn uncompared(&mut self, node: NodeId, object: &ObjectId) -> Option<&mut Outgoing> {
        let Role::Primary(primary) = &mut self.role else {
            return None;
        };
        let Phase::Collecting { missing, .. } = &primary.phase else {
            return None;
        };
        let left = missing.get(&node)?.left.as_ref()?;
        match left.contains(object) {
            true => primary.streams.get_mut(&node),
            false => None,
        }
    }

    /// A backup was brought to an object as it is here.
    pub fn compared(
        &mut self,
        node: NodeId,
        object: &ObjectId,
        now_ms: u64,
        out: &mut Vec<Action<R>>,
    ) {
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        if let Phase::Collecting { missing, .. } = &mut primary.phase
            && let Some(there) = missing.get_mut(&node)
            && let Some(left) = &mut there.left
        {
            left.remove(object);
            self.go_on_collecting(node, now_ms, out);
        }
    }

    /// Ends the comparison with a node, if all objects were compared, and all comparisons with the last one.
    fn go_on_collecting(&mut self, node: NodeId, now_ms: u64, out: &mut Vec<Action<R>>) {
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        let Phase::Collecting {
            missing, is_open, ..
        } = &mut primary.phase
        else {
            return;
        };
        if !missing.get(&node).is_some_and(Comparison::is_through) {
            return;
        }
        missing.remove(&node);
        if missing.is_empty() {
            out.push(served(*is_open));
            primary.phase = Phase::Serving;
        }
        // All entries at once. If an object holds this up, they go with the next change, or as time passes.
        self.flush(now_ms, out);
        self.release(out);
    }

    /// The rank of the image that a node needs which has another object than it should; `None`: its copy is to come, or
    /// nothing is sent to it.
    pub fn repair_rank(&self, node: NodeId, replica: &Replica) -> Option<u8> {
        let Role::Primary(primary) = &self.role else {
            return None;
        };
        let stream = primary.streams.get(&node)?;
        let join = primary.join.as_ref().filter(|join| join.node == node);
        match join {
            Some(join) if join.follows(replica) => Some(stream.rank.min(join.rank)),
            _ if stream.rank == UNASSIGNED => None,
            _ => Some(stream.rank),
        }
    }

    /// Sends an object whole to a node that has another one than it should.
    pub fn repair(&mut self, node: NodeId, object: ObjectId, replica: &Replica, image: Image) {
        if let Role::Primary(primary) = &mut self.role
            && let Some(stream) = primary.streams.get_mut(&node)
        {
            stream.send(object, replica, image);
        }
    }
}
