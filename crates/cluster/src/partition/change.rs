//! What the primary does to objects, and when answers go out.

use crucial_core::{CallId, Change};
use crucial_object::{ObjectId, SessionId};

use super::join::Join;
use super::stream::{NO_SEAT, Outgoing};
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
        self.spread(|stream, join| {
            let level = join.map_or(stream.level, |join| stream.level.min(join.level));
            Some(Entry::Install {
                object,
                image: replica.image(level).ok()?.into(),
                done: Some(done),
            })
            .zip(Some(stream.required || join.is_some_and(Join::is_required)))
        });
        if let Role::Primary(reign) = &self.role
            && let Some(join) = &reign.join
        {
            replica.copied = join.number;
        }
        replica.issued = self.issued;
    }

    /// An object was deleted here, with the records of the calls `buried`. Gives what the answer waits for.
    /// No request did it, if there is none in `done`: its run has ended.
    pub fn delete(
        &mut self,
        object: ObjectId,
        done: Option<Lifecycle>,
        buried: Vec<CallId>,
    ) -> u64 {
        self.done.note(done);
        self.done.bury(&buried);
        self.spread(|stream, join| {
            let entry = Entry::Drop {
                object,
                done,
                buried: buried.clone(),
            };
            Some((
                entry,
                stream.required || join.is_some_and(Join::is_required),
            ))
        });
        self.issued
    }

    /// Drops what is kept of requests that nobody will repeat, if it is time to.
    pub fn purge(&mut self, needed: &dyn Fn(CallId) -> bool) {
        if self.done.purge(needed) {
            self.tell_requests();
        }
    }

    /// The sessions that may repeat a creation or deletion.
    pub fn requesters(&self) -> Vec<SessionId> {
        self.done.sessions()
    }

    /// A session has ended: nobody will repeat its requests.
    pub fn end_session(&mut self, session: SessionId) {
        if self.done.forget(session) {
            self.tell_requests();
        }
    }

    fn tell_requests(&mut self) {
        let done = self.done.all();
        self.spread(|_, _| Some((Entry::Done(done.clone()), false)));
    }

    /// A change was done here. It is made, with the checksum of its results, for those who need it.
    pub fn change(
        &mut self,
        object: ObjectId,
        replica: &mut Replica,
        change: impl Fn() -> (Change, u64),
    ) {
        let previous = replica.version;
        let Some(version) = self.next_version() else {
            return;
        };
        replica.version = version;
        self.spread(|stream, join| {
            let needed = needs_full(replica, stream, join)?;
            let (change, checksum) = change();
            let entry = Entry::Apply {
                object,
                previous,
                version,
                change,
                checksum,
            };
            Some((entry, needed))
        });
        replica.issued = self.issued;
    }

    /// A change was done here that others would not do alike: a method ended by a limit of its time, say. The object
    /// goes to them as it is.
    pub fn replace(&mut self, object: ObjectId, replica: &mut Replica) {
        let Some(version) = self.next_version() else {
            return;
        };
        replica.version = version;
        self.spread(|stream, join| {
            let needed = needs_full(replica, stream, join)?;
            let image = replica.image(0).ok()?.into();
            let entry = Entry::Install {
                object,
                image,
                done: None,
            };
            Some((entry, needed))
        });
        replica.issued = self.issued;
    }

    /// Appends entries to the streams of seats and of a joining node, as `entry` says; with whether its
    /// acknowledgement is needed.
    fn spread(&mut self, mut entry: impl FnMut(&Outgoing, Option<&Join>) -> Option<(Entry, bool)>) {
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        let mut needs = Vec::new();
        for (node, stream) in &mut reign.streams {
            let join = reign.join.as_ref().filter(|join| join.node == *node);
            if stream.level == NO_SEAT && join.is_none() {
                continue;
            }
            let Some((entry, is_needed)) = entry(stream, join) else {
                continue;
            };
            let index = stream.push(entry);
            if is_needed {
                needs.push((*node, index));
            }
        }
        self.issued += 1;
        if needs.is_empty() && reign.pending.is_empty() {
            // The common case of an object that is nowhere else.
            self.released += 1;
        } else {
            reign.await_all(needs);
        }
    }

    /// Whether all that was done to an object is at all seats that are to have it.
    pub fn is_settled(&self, replica: &Replica) -> bool {
        replica.issued <= self.released && !Mutant::AnswerBeforeBackup.is_planted()
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

/// Whether a node's acknowledgement of an object's change is needed; `None`: it does not have the object in full.
fn needs_full(replica: &Replica, stream: &Outgoing, join: Option<&Join>) -> Option<bool> {
    if replica.replicas > stream.level {
        return Some(stream.required);
    }
    let join = join.filter(|join| join.follows(replica))?;
    Some(join.is_required())
}
