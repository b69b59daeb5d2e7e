//! A new primary brings the others to what it has.

use crucial_object::ObjectId;

use super::state::{Action, Partition, Phase, Role};
use super::stream::{Outgoing, UNASSIGNED};
use crate::replication::{Entry, Holding, Image, NodeId, Replica};

impl<R> Partition<R> {
    /// Compares one object, as it is here (`None`: not at all), with what a backup holds of it. Gives the rank of the image
    /// that the backup needs, if it needs one: [`reconcile_with`](Partition::reconcile_with).
    pub fn reconcile(
        &mut self,
        node: NodeId,
        object: ObjectId,
        here: Option<&Replica>,
        there: Option<Holding>,
    ) -> Option<u8> {
        let stream = self.unreconciled(node)?;
        match here {
            None if there.is_none() => None,
            None => {
                stream.push(Entry::Drop {
                    object,
                    done: None,
                    tombstones: Vec::new(),
                });
                None
            }
            Some(replica) => {
                let rank = stream.rank;
                (there != Some(replica.holding(object, rank))).then_some(rank)
            }
        }
    }

    /// Brings a backup to one object as it is here.
    pub fn reconcile_with(
        &mut self,
        node: NodeId,
        object: ObjectId,
        replica: &mut Replica,
        image: Image,
    ) {
        let Some(stream) = self.unreconciled(node) else {
            return;
        };
        let index = stream.send(object, replica, image);
        if let Role::Primary(primary) = &mut self.role {
            primary.await_all(vec![(node, index)], Some((object, replica.replicas)));
            self.issued += 1;
            replica.issued = self.issued;
        }
    }

    /// The stream to a backup that is not reconciled yet. Once is enough, however often it was asked for: what is sent later
    /// follows by itself.
    fn unreconciled(&mut self, node: NodeId) -> Option<&mut Outgoing> {
        let Role::Primary(primary) = &mut self.role else {
            return None;
        };
        match &primary.phase {
            Phase::Collecting { missing, .. } if missing.contains(&node) => {
                primary.streams.get_mut(&node)
            }
            _ => None,
        }
    }

    /// All objects were reconciled with this assignment.
    pub fn reconciled(&mut self, node: NodeId, now_ms: u64, out: &mut Vec<Action<R>>) {
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        if let Phase::Collecting { missing, .. } = &mut primary.phase {
            missing.remove(&node);
            if missing.is_empty() {
                primary.phase = Phase::Serving;
                out.push(Action::Open);
            }
        }
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
