//! The primary's changes of objects, and when answers go out.

use crate::cell::{CallId, Change};
use crucial_object::{ObjectId, SessionId};

use super::join::Join;
use super::state::{Action, Partition, Pending, Phase, Primary, Role, Timing};
use super::stream::{Outgoing, UNASSIGNED};
use crate::replication::mutant::Mutant;
use crate::replication::{Entry, Image, ImageBody, Lifecycle, Message, NodeId, Replica, Version};

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
        self.spread(Some((object, replica.replicas)), |stream, join| {
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

    /// An object of `replicas` was deleted here, with the records of the calls `tombstones`. Gives what the answer waits for.
    /// Without `done` no request deleted it: its run has ended.
    pub fn delete(
        &mut self,
        (object, replicas): (ObjectId, u8),
        done: Option<Lifecycle>,
        tombstones: Vec<CallId>,
    ) -> u64 {
        self.done.record(done);
        self.done.add_tombstones(&tombstones);
        self.spread(Some((object, replicas)), |stream, join| {
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
        self.spread(None, |_, _| Some((Entry::Done(done.clone()), false)));
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
        self.spread(Some((object, replica.replicas)), |stream, join| {
            let needed = needs_full((object, replica), stream, join)?;
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
        self.spread(Some((object, replica.replicas)), |stream, join| {
            let needed = needs_full((object, replica), stream, join)?;
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
        let is_unsent = image.is_some_and(|image| matches!(image.body, ImageBody::Lost));
        if let Role::Primary(primary) = &mut self.role
            && is_unsent
        {
            for (node, stream) in &mut primary.streams {
                let join = primary.join.as_ref().filter(|join| join.node == *node);
                if needs_full((object, replica), stream, join).is_some() {
                    stream.lacking_mut().set_unsent(object);
                }
            }
        }
    }

    /// Appends entries to the streams of assignments and of a joining node, as `entry` says; with whether its
    /// acknowledgement is needed. They are of this object, which has this number of replicas.
    fn spread(
        &mut self,
        of: Option<(ObjectId, u8)>,
        mut entry: impl FnMut(&Outgoing, Option<&Join>) -> Option<(Entry, bool)>,
    ) {
        let timing = &self.timing;
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
        let is_alone = needs.is_empty() && primary.pending.is_empty();
        if is_alone && primary.has_enough(of, timing.min_replicas) {
            // The common case of an object that is nowhere else.
            self.released += 1;
        } else {
            primary.await_all(needs, of);
            primary.is_full |= primary.unacknowledged_bytes() > timing.unacknowledged_bytes_max
                || primary.pending.len() > timing.unacknowledged_max;
        }
    }

    /// Whether all that was done to an object is at all assignments that are to have it.
    pub fn is_settled(&self, replica: &Replica) -> bool {
        let is_settled = match self.pending(replica.issued) {
            None => true,
            Some(pending) => pending.is_kept,
        };
        is_settled && !Mutant::AnswerBeforeBackup.is_planted()
    }

    /// A change by its number, if not all before it and itself are released.
    fn pending(&self, change: u64) -> Option<&Pending<R>> {
        let index = change.checked_sub(self.released + 1)?;
        match &self.role {
            Role::Primary(primary) => primary.pending.get(index as usize),
            _ => None,
        }
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
        match self.pending_mut(replica.issued) {
            Some(pending) if !pending.is_kept => pending.answers.push(answer),
            _ => out.push(Action::Release(answer)),
        }
    }

    /// An answer that depends on a change and all before it in this partition.
    pub fn answer_after(&mut self, change: u64, answer: R, out: &mut Vec<Action<R>>) {
        match self.pending_mut(change) {
            Some(pending) => pending.last_answers.push(answer),
            None => out.push(Action::Release(answer)),
        }
    }

    /// As [`pending`](Partition::pending), for an answer that waits for it.
    fn pending_mut(&mut self, change: u64) -> Option<&mut Pending<R>> {
        let index = change.checked_sub(self.released + 1)?;
        match &mut self.role {
            Role::Primary(primary) if !Mutant::AnswerBeforeBackup.is_planted() => {
                primary.pending.get_mut(index as usize)
            }
            _ => None,
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
        let timing = &self.timing;
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        while let Some(first) = primary.pending.front()
            && primary.is_kept(first, timing.min_replicas)
        {
            self.released += 1;
            let done = primary.pending.pop_front();
            for done in done.into_iter() {
                let answers = done.answers.into_iter().chain(done.last_answers);
                out.extend(answers.map(Action::Release));
            }
        }
        primary.release_past_waiting(timing.min_replicas, out);
        primary.make_room(timing, out);
    }

    /// There is a new connection to a node: what was on its way may be lost.
    pub fn on_connected(&mut self, node: NodeId, now_ms: u64, out: &mut Vec<Action<R>>) {
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        if let Some(stream) = primary.streams.get_mut(&node) {
            stream.send_again();
            self.flush(now_ms, out);
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
            let there = collecting.and_then(|missing| missing.get(node));
            if there.is_some_and(|there| there.left.is_none()) {
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

impl<R> Primary<R> {
    /// A change that waits for more servers than there are holds up what depends on it, and no other object.
    fn release_past_waiting(&mut self, min_replicas: u8, out: &mut Vec<Action<R>>) {
        let waits = |first: &Pending<R>| !self.has_enough(first.of, min_replicas);
        if !self.pending.front().is_some_and(waits) {
            return;
        }
        for index in 0..self.pending.len() {
            let is_kept = self.is_kept(&self.pending[index], min_replicas);
            let pending = &mut self.pending[index];
            pending.is_kept = is_kept;
            if is_kept {
                out.extend(pending.answers.drain(..).map(Action::Release));
            }
        }
    }

    /// Goes on executing when half of what was too much has arrived.
    fn make_room(&mut self, timing: &Timing, out: &mut Vec<Action<R>>) {
        if self.is_full
            && self.unacknowledged_bytes() <= timing.unacknowledged_bytes_max / 2
            && self.pending.len() <= timing.unacknowledged_max / 2
        {
            self.is_full = Mutant::NeverResumes.is_planted();
            out.push(Action::Resume);
        }
    }
}

/// Whether a node's acknowledgement of an object's change is needed; `None`: it does not have the object in full.
fn needs_full(
    (object, replica): (ObjectId, &Replica),
    stream: &Outgoing,
    join: Option<&Join>,
) -> Option<bool> {
    if stream.lacking().is_without(&object) {
        return None;
    }
    if replica.replicas > stream.rank {
        return Some(stream.required);
    }
    let join = join.filter(|join| join.follows(replica))?;
    Some(join.is_required())
}
