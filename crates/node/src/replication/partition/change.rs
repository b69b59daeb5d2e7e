//! The primary's changes of objects, and when answers go out.

use crate::cell::{CallId, Change};
use crucial_object::{ObjectId, SessionId};

use super::join::Join;
use super::state::{Action, Partition, Phase, Role};
use super::stream::{Outgoing, UNASSIGNED};
use crate::replication::mutant::Mutant;
use crate::replication::{Entry, Image, Lifecycle, Message, NodeId, Replica, Version};

impl<R> Partition<R> {
    /// Whether other nodes may need an object that is created or replaced here. Its image has to be made before the
    /// partition is locked again, since that runs the user's code.
    pub fn has_followers(&self) -> bool {
        matches!(&self.role, Role::Primary(primary) if !primary.streams.is_empty())
    }

    /// An object was created here, perhaps in place of one whose calls `tombstones` may be repeated: no server may have neither of
    /// the two. Its image, which is for rank 0, goes to all assignments; to those that it is below as a stub. Without an image only a node can be there that began to join meanwhile: that one gets a copy, as it lists the object.
    pub fn create(
        &mut self,
        object: ObjectId,
        replica: &mut Replica,
        image: Option<Image>,
        (done, tombstones): (Lifecycle, Vec<CallId>),
    ) {
        self.done.record(Some(done));
        self.done.add_tombstones(&tombstones);
        let Some(version) = self.next_version() else {
            return;
        };
        replica.birth = version;
        replica.version = version;
        let image = image.map(|image| Image {
            birth: version,
            version,
            ..image
        });
        self.spread(|stream, join| {
            let rank = join.map_or(stream.rank, |join| stream.rank.min(join.rank));
            let tombstones = tombstones.clone();
            let image = image.as_ref().map(|image| match replica.replicas > rank {
                true => image.clone(),
                false => image.stub(),
            });
            let entry = match image {
                Some(image) => Entry::Install {
                    object,
                    image: Box::new(image),
                    done: Some(done),
                    tombstones,
                },
                None if tombstones.is_empty() => return None,
                None => Entry::Drop {
                    object,
                    done: None,
                    tombstones,
                },
            };
            Some((
                entry,
                stream.required || join.is_some_and(Join::is_required),
            ))
        });
        if let Role::Primary(primary) = &self.role
            && let (Some(join), Some(_)) = (&primary.join, &image)
        {
            replica.copied = join.number;
        }
        replica.issued = self.issued;
    }

    /// An object was deleted here, with the records of the calls `tombstones`. Gives what the answer waits for.
    /// Without `done` no request deleted it: its run has ended.
    pub fn delete(
        &mut self,
        object: ObjectId,
        done: Option<Lifecycle>,
        tombstones: Vec<CallId>,
    ) -> u64 {
        self.done.record(done);
        self.done.add_tombstones(&tombstones);
        self.spread(|stream, join| {
            let entry = Entry::Drop {
                object,
                done,
                tombstones: tombstones.clone(),
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

    /// A change was done here that others might not do alike: a method that was ended by a limit of its time, say. The
    /// object's image goes to them, if there was anybody to make it for.
    pub fn replace(&mut self, object: ObjectId, replica: &mut Replica, image: Option<Image>) {
        let Some(version) = self.next_version() else {
            return;
        };
        replica.version = version;
        self.spread(|stream, join| {
            let needed = needs_full(replica, stream, join)?;
            let image = Image {
                version,
                ..image.clone()?
            };
            let entry = Entry::Install {
                object,
                image: Box::new(image),
                done: None,
                tombstones: Vec::new(),
            };
            Some((entry, needed))
        });
        replica.issued = self.issued;
    }

    /// Appends entries to the streams of assignments and of a joining node, as `entry` says; with whether its
    /// acknowledgement is needed.
    fn spread(&mut self, mut entry: impl FnMut(&Outgoing, Option<&Join>) -> Option<(Entry, bool)>) {
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        let mut needs = Vec::new();
        for (node, stream) in &mut primary.streams {
            let join = primary.join.as_ref().filter(|join| join.node == *node);
            if stream.rank == UNASSIGNED && join.is_none() {
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
        if needs.is_empty() && primary.pending.is_empty() {
            // The common case of an object that is nowhere else.
            self.released += 1;
        } else {
            primary.await_all(needs);
        }
    }

    /// Whether all that was done to an object is at all assignments that are to have it.
    pub fn is_settled(&self, replica: &Replica) -> bool {
        replica.issued <= self.released && !Mutant::AnswerBeforeBackup.is_planted()
    }

    pub(super) fn next_version(&mut self) -> Option<Version> {
        let Role::Primary(primary) = &mut self.role else {
            return None;
        };
        primary.changes += 1;
        Some(Version {
            epoch: primary.epoch,
            change: primary.changes,
        })
    }

    /// An answer that depends on all changes of an object: it goes out when all assignments concerned have them.
    pub fn answer(&mut self, replica: &Replica, answer: R, out: &mut Vec<Action<R>>) {
        self.answer_after(replica.issued, answer, out);
    }

    /// An answer that depends on a change and all before it in this partition.
    pub fn answer_after(&mut self, change: u64, answer: R, out: &mut Vec<Action<R>>) {
        let waits = change.checked_sub(self.released + 1);
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        let pending = waits.and_then(|index| primary.pending.get_mut(index as usize));
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
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        while let Some(first) = primary.pending.front() {
            let has = |(node, index): &(NodeId, u64)| {
                let stream = primary.streams.get(node);
                stream.is_none_or(|stream| stream.acknowledged() >= *index)
            };
            if !first.needs.iter().all(has) {
                break;
            }
            self.released += 1;
            let done = primary.pending.pop_front();
            for answer in done.into_iter().flat_map(|done| done.answers) {
                out.push(Action::Release(answer));
            }
        }
    }

    /// Sends what was not sent yet.
    pub(super) fn flush(&mut self, now_ms: u64, out: &mut Vec<Action<R>>) {
        let batch = self.timing.batch;
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        let collecting = match &primary.phase {
            Phase::Collecting { missing, .. } => Some(missing),
            _ => None,
        };
        for (node, stream) in &mut primary.streams {
            // Before its digest, nothing may come to an assignment that the digest would not tell of.
            if collecting.is_some_and(|missing| missing.contains(node)) {
                continue;
            }
            while let Some((base, first, entries)) = stream.next_batch(batch, now_ms) {
                let message = Message::Stream {
                    epoch: primary.epoch,
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
    if replica.replicas > stream.rank {
        return Some(stream.required);
    }
    let join = join.filter(|join| join.follows(replica))?;
    Some(join.is_required())
}
