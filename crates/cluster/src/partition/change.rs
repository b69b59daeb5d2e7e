//! What the primary does to objects, and when answers go out.

use crucial_core::{CallId, Change};
use crucial_object::ObjectId;

use super::join::Join;
use super::stream::NO_SEAT;
use super::{Action, Partition, Phase, Role};
use crate::mutant::Mutant;
use crate::{Entry, Lifecycle, Message, NodeId, Replica, Version};

impl<R> Partition<R> {
    /// An object was created here. It goes to all seats, where it is below their level as a stub.
    pub fn create(&mut self, object: ObjectId, replica: &mut Replica, done: Lifecycle) {
        self.done.note(Some(done));
        let Some(version) = self.next_version() else {
            return;
        };
        replica.birth = version;
        replica.version = version;
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        let mut needs = Vec::new();
        for (node, stream) in &mut reign.streams {
            let join = reign.join.as_ref().filter(|join| join.node == *node);
            if stream.level == NO_SEAT && join.is_none() {
                continue;
            }
            let level = join.map_or(stream.level, |join| stream.level.min(join.level));
            let Ok(image) = replica.image(level) else {
                continue;
            };
            let entry = Entry::Install {
                object,
                image: image.into(),
                done: Some(done),
            };
            let index = stream.push(entry);
            if stream.required || join.is_some_and(Join::is_required) {
                needs.push((*node, index));
            }
        }
        if let Some(join) = &reign.join {
            replica.copied = join.number;
        }
        reign.await_all(needs);
        self.issued += 1;
        replica.issued = self.issued;
    }

    /// An object was deleted here, with the records of the calls `buried`. Gives what the answer waits for.
    pub fn delete(&mut self, object: ObjectId, done: Lifecycle, buried: Vec<CallId>) -> u64 {
        self.done.note(Some(done));
        self.done.bury(&buried);
        let Role::Primary(reign) = &mut self.role else {
            return self.issued;
        };
        let mut needs = Vec::new();
        for (node, stream) in &mut reign.streams {
            let join = reign.join.as_ref().filter(|join| join.node == *node);
            if stream.level == NO_SEAT && join.is_none() {
                continue;
            }
            let index = stream.push(Entry::Drop {
                object,
                done: Some(done),
                buried: buried.clone(),
            });
            if stream.required || join.is_some_and(Join::is_required) {
                needs.push((*node, index));
            }
        }
        reign.await_all(needs);
        self.issued += 1;
        self.issued
    }

    /// Drops what is kept of requests that nobody will repeat, if it is time to.
    pub fn purge(&mut self, needed: &dyn Fn(CallId) -> bool) {
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        if !self.done.purge(needed) {
            return;
        }
        for (node, stream) in &mut reign.streams {
            let joins = reign.join.as_ref().is_some_and(|join| join.node == *node);
            if stream.level != NO_SEAT || joins {
                stream.push(Entry::Done(self.done.all()));
            }
        }
    }

    /// A change was done here, with results of this checksum.
    pub fn change(
        &mut self,
        object: ObjectId,
        replica: &mut Replica,
        change: &Change,
        checksum: u64,
    ) {
        let previous = replica.version;
        let Some(version) = self.next_version() else {
            return;
        };
        replica.version = version;
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        let mut needs = Vec::new();
        for (node, stream) in &mut reign.streams {
            let join = reign.join.as_ref().filter(|join| join.node == *node);
            let is_required = if replica.replicas > stream.level {
                stream.required
            } else if join.is_some_and(|join| join.follows(replica)) {
                join.is_some_and(Join::is_required)
            } else {
                continue;
            };
            let index = stream.push(Entry::Apply {
                object,
                previous,
                version,
                change: change.clone(),
                checksum,
            });
            if is_required {
                needs.push((*node, index));
            }
        }
        reign.await_all(needs);
        self.issued += 1;
        replica.issued = self.issued;
    }

    pub(super) fn next_version(&mut self) -> Option<Version> {
        let Role::Primary(reign) = &mut self.role else {
            return None;
        };
        reign.changes += 1;
        Some(Version {
            epoch: reign.epoch,
            change: reign.changes,
        })
    }

    /// An answer that depends on all changes of an object: it goes out when all seats concerned have them.
    pub fn answer(&mut self, replica: &Replica, answer: R, out: &mut Vec<Action<R>>) {
        self.answer_after(replica.issued, answer, out);
    }

    /// An answer that depends on a change and all before it in this partition.
    pub fn answer_after(&mut self, change: u64, answer: R, out: &mut Vec<Action<R>>) {
        let waits = change.checked_sub(self.released + 1);
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        let pending = waits.and_then(|index| reign.pending.get_mut(index as usize));
        match pending {
            Some(pending) if !Mutant::AnswerBeforeBackup.is_planted() => {
                pending.answers.push(answer);
            }
            _ => out.push(Action::Release(answer)),
        }
    }

    /// An answer that depends on nothing that may be lost.
    pub fn answer_read(&mut self, replica: &Replica, answer: R, out: &mut Vec<Action<R>>) {
        if Mutant::ReadUnacknowledged.is_planted() {
            out.push(Action::Release(answer));
        } else {
            self.answer(replica, answer, out);
        }
    }

    /// Sends what was issued, and answers what needs nobody.
    pub fn issue(&mut self, now_ms: u64, out: &mut Vec<Action<R>>) {
        self.release(out);
        self.flush(now_ms, out);
    }

    pub(super) fn release(&mut self, out: &mut Vec<Action<R>>) {
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        while let Some(first) = reign.pending.front() {
            let has = |(node, index): &(NodeId, u64)| {
                let stream = reign.streams.get(node);
                stream.is_none_or(|stream| stream.acknowledged() >= *index)
            };
            if !first.needs.iter().all(has) {
                break;
            }
            self.released += 1;
            let done = reign.pending.pop_front();
            for answer in done.into_iter().flat_map(|done| done.answers) {
                out.push(Action::Release(answer));
            }
        }
    }

    /// Sends what was not sent yet.
    pub(super) fn flush(&mut self, now_ms: u64, out: &mut Vec<Action<R>>) {
        let batch = self.timing.batch;
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        let collecting = match &reign.phase {
            Phase::Collecting { missing, .. } => Some(missing),
            _ => None,
        };
        for (node, stream) in &mut reign.streams {
            // Before its digest, nothing may come to a seat that the digest would not tell of.
            if collecting.is_some_and(|missing| missing.contains(node)) {
                continue;
            }
            while let Some((base, first, entries)) = stream.next_batch(batch, now_ms) {
                let message = Message::Stream {
                    epoch: reign.epoch,
                    base,
                    first,
                    entries,
                };
                out.push(Action::Send(*node, message));
            }
        }
    }
}
