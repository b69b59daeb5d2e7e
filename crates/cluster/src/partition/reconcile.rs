//! A new primary brings the others to what it has.

use crucial_object::ObjectId;

use super::stream::NO_SEAT;
use super::{Action, Partition, Phase, Role};
use crate::{Entry, Held, NodeId, Replica};

impl<R> Partition<R> {
    /// One object, as it is here (`None`: not at all) and there.
    pub fn reconcile(
        &mut self,
        node: NodeId,
        object: ObjectId,
        here: Option<&mut Replica>,
        there: Option<Held>,
    ) {
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        // Once is enough, however often it was asked: what is sent later follows by itself.
        if !matches!(&reign.phase, Phase::Collecting { missing, .. } if missing.contains(&node)) {
            return;
        }
        let Some(stream) = reign.streams.get_mut(&node) else {
            return;
        };
        let Some(replica) = here else {
            stream.push(Entry::Drop {
                object,
                done: None,
                buried: Vec::new(),
            });
            return;
        };
        if there == Some(replica.held(object, stream.level)) {
            return;
        }
        let level = stream.level;
        let Some(index) = stream.install(object, replica, level) else {
            return;
        };
        reign.await_all(vec![(node, index)]);
        self.issued += 1;
        replica.issued = self.issued;
    }

    /// All objects were reconciled with this seat.
    pub fn reconciled(&mut self, node: NodeId, now_ms: u64, out: &mut Vec<Action<R>>) {
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        if let Phase::Collecting { missing, .. } = &mut reign.phase {
            missing.remove(&node);
            if missing.is_empty() {
                reign.phase = Phase::Serving;
                out.push(Action::Open);
            }
        }
        self.flush(now_ms, out);
        self.release(out);
    }

    /// Sends an object whole to a seat that has another one than it should.
    pub fn repair(&mut self, node: NodeId, object: ObjectId, replica: &mut Replica) {
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        let Some(stream) = reign.streams.get_mut(&node) else {
            return;
        };
        let join = reign.join.as_ref().filter(|join| join.node == node);
        let level = match join {
            Some(join) if join.follows(replica) => stream.level.min(join.level),
            // Its copy is to come.
            Some(_) if stream.level == NO_SEAT => return,
            _ => stream.level,
        };
        stream.install(object, replica, level);
    }
}
