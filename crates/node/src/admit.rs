//! Decides, under the partition's lock, what an event does to its object: nothing, something at once, or user code that a
//! job executes.

use std::sync::Arc;

use crucial_object::{Error, ObjectId, Result, TypeInfo, encode};
use crucial_proto::frame::CallRequest;

use crate::cell::{Admission as CallAdmission, CallId, Change};
use crate::ids::Millis;
use crate::job::{Job, Plan, Todo, Turn};
use crate::node::Node;
use crate::objects::{
    Event, ObjectEntry, ObjectRequest, ObjectState, Offer, RequestContext, SessionEnd,
};
use crate::outputs::Outputs;
use crate::partitions::{Admission, PartitionState, Reply, Term};
use crate::replication::{Checksum, Entry, ImageBody, Lifecycle, NodeId, Replica, StreamPlace};
use crate::rounds::Contribution;
use crate::sync::MutexGuard;

/// An object that is checked out, while its next event is admitted.
pub(crate) struct Hand<'a> {
    pub entry: &'a Arc<ObjectEntry>,
    pub state: &'a mut ObjectState,
}

impl Hand<'_> {
    pub fn id(&self) -> ObjectId {
        self.entry.id
    }
}

/// A request that may be executed now.
pub(crate) struct Admitted<'a> {
    /// The partition of its object, locked.
    pub part: MutexGuard<'a, PartitionState>,
    /// The term in which it was admitted.
    pub term: Term,
}

impl Node {
    /// Offers an event to an object. When the object is free, its turn is at the end of the input.
    pub(crate) fn offer(&self, object: ObjectId, event: Event, out: &mut Outputs) {
        // Without a limit the event is not given back.
        let _ = self.offer_up_to(usize::MAX, object, event, out);
    }

    /// Offers an event, which is given back if too many queue for the object.
    pub(crate) fn offer_up_to(
        &self,
        queued_max: usize,
        object: ObjectId,
        mut event: Event,
        out: &mut Outputs,
    ) -> Option<Event> {
        loop {
            let entry = self.objects.find_or_insert(&object);
            let begin = |state, event| Turn::new(entry.clone(), state, event);
            match entry.offer(event, queued_max, begin) {
                Offer::Turn(turn) => {
                    out.turns.push_back(turn);
                    return None;
                }
                Offer::Queued => return None,
                Offer::Full(back) => return Some(*back),
                Offer::Removed(back) => {
                    self.objects.remove(&entry);
                    event = *back;
                }
            }
        }
    }

    /// Begins the turns that have come up, and ends the rounds that had no objects.
    pub(crate) fn begin_turns(&self, now: Millis, out: &mut Outputs) {
        loop {
            if let Some(turn) = out.turns.pop_front() {
                self.begin(turn, now, out);
            } else if let Some(round) = out.ended_rounds.pop_front() {
                self.end_round(round, now, out);
            } else {
                return;
            }
        }
    }

    /// Admits the events of a checked-out object until one needs a job, or none is left and the object is given back.
    pub(crate) fn begin(&self, mut turn: Box<Turn>, now: Millis, out: &mut Outputs) {
        loop {
            if let Some((plan, has_followers)) = self.admit(&mut turn, now, out) {
                turn.plan = Some(plan);
                turn.has_followers = has_followers;
                turn.results = out.results();
                return out.jobs.push_back(Job(Todo::Object(turn)));
            }
            if !self.next_event(&mut turn) {
                return;
            }
        }
    }

    /// Goes on to the next event of a checked-out object. False: no event is left, and the object was given back.
    pub(crate) fn next_event(&self, turn: &mut Turn) -> bool {
        let state = &mut turn.state.0;
        let is_absent = state.is_none();
        match turn.entry.next(state) {
            Some(event) => turn.event = event,
            None if is_absent => {
                self.objects.remove(&turn.entry);
                return false;
            }
            None => return false,
        }
        true
    }

    /// Handles an event, or gives the user code that it needs, and whether other servers may need an image.
    fn admit(&self, turn: &mut Turn, now: Millis, out: &mut Outputs) -> Option<(Plan, bool)> {
        let hand = &mut Hand {
            entry: &turn.entry,
            state: &mut turn.state.0,
        };
        match &turn.event {
            Event::Request(..) => self.admit_request(hand, &mut turn.event, now, out),
            Event::EndCall(..) => self.admit_end_of_call(hand, &mut turn.event, now),
            Event::EndSession(..) | Event::Remove(_) => {
                self.admit_own(hand, &mut turn.event, now, out)
            }
            Event::Apply(place, entry) => self.admit_entry(hand, *place, entry, out),
            Event::Task(task, round) => self.admit_task(hand, task, *round, now, out),
        }
    }

    /// A request of a client is executed here, later, or elsewhere.
    fn admit_request(
        &self,
        hand: &mut Hand<'_>,
        event: &mut Event,
        now: Millis,
        out: &mut Outputs,
    ) -> Option<(Plan, bool)> {
        let Event::Request(context, request) = &*event else {
            return None;
        };
        let is_withdrawal = matches!(request, ObjectRequest::Withdraw);
        let is_current = match is_withdrawal {
            true => context.session.accepts(context.connection.id),
            false => context.is_current(),
        };
        let retried = context.retried;
        let mut part = self.partitions.lock_of(&hand.id());
        if !is_current {
            self.end_retry(&mut part, hand.id(), retried, out);
            return None;
        }
        let mut admission = part.admit(&hand.id(), context, self.membership.standing(now));
        if matches!(admission, Admission::Now(_)) && self.lacks_type(request) {
            admission = Admission::Later;
        }
        if admission != Admission::Later {
            self.end_retry(&mut part, hand.id(), retried, out);
        }
        let term = match admission {
            Admission::Now(term) => term,
            Admission::Elsewhere => {
                drop(part);
                if !is_withdrawal {
                    self.send_moved(context, out);
                }
                return None;
            }
            Admission::Later => {
                let max = self.limits.waiting_requests_max;
                let refused = part.wait(hand.id(), event.take(), max);
                self.end_retry(&mut part, hand.id(), retried, out);
                drop(part);
                if let Some(context) = refused.as_ref().and_then(Event::context) {
                    self.reply(context, Err(&too_many_wait(max)), out);
                }
                return None;
            }
        };
        let has_followers = part.partition.has_followers();
        let plan = match request {
            ObjectRequest::Call(call) => {
                let admitted = Admitted { part, term };
                self.admit_call(hand, admitted, context, call, now, out)?
            }
            ObjectRequest::ClearPoison => {
                if !is_here(hand.state) || part.partition.done(context.call()).is_some() {
                    self.reply_lost(hand.id(), &mut part, context, now, out);
                    return None;
                }
                let change = Change::ClearPoison {
                    id: context.call(),
                    acked: context.acked,
                };
                Plan::Change(term, change)
            }
            ObjectRequest::Withdraw => {
                end_parked_call(hand.state, term, context.call(), Error::Cancelled)?
            }
            ObjectRequest::Open(open) => {
                let admitted = Admitted { part, term };
                self.admit_open(hand, admitted, context, open, now, out)?
            }
            ObjectRequest::Delete => {
                self.delete(hand, part, context, now, out);
                return None;
            }
        };
        Some((plan, has_followers))
    }

    /// A request is admitted, or waits. If it had waited before, those that wait behind it may be next.
    fn end_retry(
        &self,
        part: &mut PartitionState,
        object: ObjectId,
        retried: bool,
        out: &mut Outputs,
    ) {
        if retried && part.on_retried(&object) {
            self.retry_object(part, object, out);
        }
    }

    fn admit_call(
        &self,
        hand: &mut Hand<'_>,
        Admitted { mut part, term }: Admitted<'_>,
        context: &RequestContext,
        request: &CallRequest,
        now: Millis,
        out: &mut Outputs,
    ) -> Option<Plan> {
        let object = hand.id();
        if !is_here(hand.state) || part.partition.done(context.call()).is_some() {
            self.reply_lost(object, &mut part, context, now, out);
            return None;
        }
        let replica = hand.state.as_mut()?;
        let needed = |call: CallId| self.sessions.needs(call);
        if let Some(forget) = replica.purge(&needed, self.records_min) {
            self.forget_records(object, &mut part, replica, &forget);
            let mut actions = Vec::new();
            part.partition.issue(now, &mut actions);
            self.act(&mut part, actions, now, out);
        }
        drop(part);
        let cell = replica.cell()?;
        let admission = cell.admits(&self.cell_call(context, request, None));
        let tracks = cell.info().tracks_sessions || context.session.recorded;
        if tracks && !context.session.track(object, &|object| self.exists(object)) {
            return None;
        }
        Some(match admission {
            CallAdmission::Change => {
                let attempt = cell
                    .may_wait(request.method)
                    .then(|| context.session.attempt());
                // The session of an exactly-once thread outlives its attempts, with its waiting calls.
                let attempt = attempt.flatten().filter(|attempt| !attempt.exactly_once);
                Plan::Call(term, attempt.map(Box::new))
            }
            CallAdmission::Known | CallAdmission::Look => Plan::Look(term),
        })
    }

    /// Drops records that nobody needs. That runs no code of the user.
    fn forget_records(
        &self,
        object: ObjectId,
        part: &mut PartitionState,
        replica: &mut Replica,
        forget: &Change,
    ) {
        let (mut replies, mut scratch) = (Vec::new(), Vec::new());
        let mut turn = crate::cell::Turn::new(&mut replies, &mut scratch);
        replica.apply(forget, &mut turn);
        let checksum = Checksum::default().value();
        part.partition
            .change(object, replica, || (forget.clone(), checksum));
    }

    /// The object is not here, or is another one by now.
    pub(crate) fn reply_lost(
        &self,
        object: ObjectId,
        part: &mut PartitionState,
        context: &RequestContext,
        now: Millis,
        out: &mut Outputs,
    ) {
        self.record_request(part, context, None);
        let last = part.partition.last();
        let reply = Reply {
            call: context.call(),
            result: Err(lost(object)),
        };
        self.reply_after(part, (last, now), [reply], out);
    }

    /// A late copy of the request has to find that it was executed.
    pub(crate) fn record_request(
        &self,
        part: &mut PartitionState,
        context: &RequestContext,
        result: Option<bool>,
    ) {
        part.partition.record(executed(context, result));
        part.partition.purge(&|call| self.sessions.needs(call));
    }

    fn delete(
        &self,
        hand: &mut Hand<'_>,
        mut part: MutexGuard<'_, PartitionState>,
        context: &RequestContext,
        now: Millis,
        out: &mut Outputs,
    ) {
        let call = context.call();
        let last = part.partition.last();
        let reply = match (part.partition.done(call), hand.state.is_some()) {
            (Some(deleted), _) => executed_before(call, deleted, hand.id()),
            (None, false) => {
                self.record_request(&mut part, context, Some(false));
                outcome(call, false)
            }
            (None, true) => {
                let gone = self.remove(hand, &mut part, Some(context), now, out);
                drop(part);
                return drop(gone);
            }
        };
        self.reply_after(&mut part, (last, now), [reply], out);
    }

    /// Removes an object, by a request or without one. Gives what is to be dropped behind the lock.
    #[must_use = "its end runs the user's code, and the partition is locked"]
    fn remove(
        &self,
        hand: &mut Hand<'_>,
        part: &mut PartitionState,
        context: Option<&RequestContext>,
        now: Millis,
        out: &mut Outputs,
    ) -> Option<Replica> {
        let object = hand.id();
        let replica = hand.state.as_mut()?;
        let request = context.map(|context| executed(context, Some(true)));
        let (tombstones, replies) = self.end_object(object, replica);
        let after = part
            .partition
            .delete((object, replica.replicas), request, tombstones);
        part.partition.purge(&|call| self.sessions.needs(call));
        let replies = replies.into_iter();
        let own = context.map(|context| outcome(context.call(), true));
        self.reply_after(part, (after, now), replies.chain(own), out);
        self.forget(hand)
    }

    /// An object goes. Gives its calls that may be repeated, and the replies to those that wait.
    pub(crate) fn end_object(
        &self,
        object: ObjectId,
        replica: &mut Replica,
    ) -> (Vec<CallId>, Vec<Reply>) {
        let Some(cell) = replica.cell() else {
            return (Vec::new(), Vec::new());
        };
        let tombstones = cell.repeatable(&|call| self.sessions.needs(call));
        let mut replies: Vec<(CallId, Result<Vec<u8>>)> = Vec::new();
        let mut scratch = Vec::new();
        let mut turn = crate::cell::Turn::new(&mut replies, &mut scratch);
        cell.end_parked(&lost(object), &mut turn);
        let replies = replies.into_iter();
        let replies = replies.map(|(call, result)| Reply { call, result });
        (tombstones, replies.collect())
    }

    /// This server does not have the object any more. Gives it, to be dropped where no lock is held.
    #[must_use = "its end runs the user's code, and a lock may be held"]
    pub(crate) fn forget(&self, hand: &mut Hand<'_>) -> Option<Replica> {
        let replica = hand.state.take()?;
        self.homes.remove(&replica.origin.home, &hand.entry.id);
        Some(replica)
    }

    fn admit_end_of_call(
        &self,
        hand: &mut Hand<'_>,
        event: &mut Event,
        now: Millis,
    ) -> Option<(Plan, bool)> {
        let &mut Event::EndCall(call, end) = event else {
            return None;
        };
        let mut part = self.partitions.lock_of(&hand.id());
        let has_followers = part.partition.has_followers();
        match part.admit_own(&hand.id(), self.membership.standing(now)) {
            Admission::Now(term) => {
                let plan = end_parked_call(hand.state, term, call, end.error())?;
                Some((plan, has_followers))
            }
            Admission::Later => {
                // Events that are not requests always find room.
                part.wait(hand.id(), event.take(), usize::MAX);
                None
            }
            // The client sends its call to the present primary, which counts anew, and has heard of fences.
            Admission::Elsewhere => None,
        }
    }

    /// Something that the primary's server does by itself.
    fn admit_own(
        &self,
        hand: &mut Hand<'_>,
        event: &mut Event,
        now: Millis,
        out: &mut Outputs,
    ) -> Option<(Plan, bool)> {
        let mut part = self.partitions.lock_of(&hand.id());
        let term = match part.admit_own(&hand.id(), self.membership.standing(now)) {
            Admission::Now(term) => term,
            Admission::Elsewhere => {
                drop(part);
                self.contribute(event.round(), Contribution::Nothing, now, out);
                return None;
            }
            Admission::Later => {
                // Events that are not requests always find room.
                part.wait(hand.id(), event.take(), usize::MAX);
                return None;
            }
        };
        let has_followers = part.partition.has_followers();
        match *event {
            Event::EndSession(session, end) => {
                let replica = hand.state.as_mut()?;
                let (concerns, change) = match end {
                    SessionEnd::Known => (replica.concerns(session), Change::EndSession(session)),
                    SessionEnd::Silent => (replica.is_held_by(session), Change::Lapse(session)),
                };
                concerns.then_some((Plan::Change(term, change), has_followers))
            }
            _ => {
                let contribution = match hand.state {
                    Some(_) => Contribution::Removed,
                    None => Contribution::Nothing,
                };
                let gone = self.remove(hand, &mut part, None, now, out);
                drop(part);
                drop(gone);
                self.contribute(event.round(), contribution, now, out);
                None
            }
        }
    }

    /// An entry of a primary's stream.
    fn admit_entry(
        &self,
        hand: &mut Hand<'_>,
        StreamPlace { from, rank, .. }: StreamPlace,
        entry: &Entry,
        out: &mut Outputs,
    ) -> Option<(Plan, bool)> {
        let plan = match entry {
            Entry::Apply { .. } if is_here(hand.state) => Plan::Follow(rank),
            // The primary knows, or will hear of it.
            Entry::Apply { .. } if self.lacks(&hand.id()) => return None,
            Entry::Apply { .. } if hand.state.is_some() => Plan::Follow(rank),
            Entry::Apply { .. } => {
                self.report_divergence(hand.id(), from, out);
                return None;
            }
            Entry::Install { image, .. } => {
                let origin = self.homes.intern(image.origin.clone());
                let info = match &image.body {
                    ImageBody::Full(cell) => self.types.find_of(&cell.type_name, cell.module),
                    ImageBody::Stub | ImageBody::Lost => None,
                };
                Plan::Restore(origin, info)
            }
            Entry::Drop { .. } => {
                drop(self.forget(hand));
                return None;
            }
            // The partition keeps these.
            Entry::Reset { .. } | Entry::Rank { .. } | Entry::Done(_) => return None,
        };
        Some((plan, false))
    }

    /// Whether this server could not keep an object that it should have.
    fn lacks(&self, object: &ObjectId) -> bool {
        self.partitions.lock_of(object).partition.lacks(object)
    }

    /// Tells the primary that an object is another one here.
    pub(crate) fn report_divergence(&self, object: ObjectId, from: NodeId, out: &mut Outputs) {
        tracing::debug!(%object, "another state than the primary's");
        let part = self.partitions.lock_of(&object);
        let message = part.partition.diverged(object);
        self.send(from, part.id, message, out);
    }

    /// Whether the type of an object that is to be created may be one of a module that is still to be installed here.
    fn lacks_type(&self, request: &ObjectRequest) -> bool {
        let ObjectRequest::Open(open) = request else {
            return false;
        };
        let may_be_new = |info: Option<&TypeInfo>| info.is_none_or(|info| info.module.is_some());
        self.modules_are_behind() && may_be_new(self.types.find(open.base_name()))
    }
}

fn is_here(state: &ObjectState) -> bool {
    state.as_ref().is_some_and(Replica::is_full)
}

/// Ends a call, if it waits.
fn end_parked_call(
    state: &mut ObjectState,
    term: Term,
    call: CallId,
    error: Error,
) -> Option<Plan> {
    let cell = state.as_mut()?.cell()?;
    cell.is_parked(call)
        .then_some(Plan::Change(term, Change::Cancel { call, error }))
}

/// A request that is no call, as it was executed.
pub(crate) fn executed(context: &RequestContext, result: Option<bool>) -> Lifecycle {
    Lifecycle {
        call: context.call(),
        acked: context.acked,
        result,
    }
}

/// Whether something was created or removed.
pub(crate) fn outcome(call: CallId, result: bool) -> Reply {
    Reply {
        call,
        result: encode(&result),
    }
}

/// The reply to a request that was executed before. `None`: its object was gone.
pub(crate) fn executed_before(call: CallId, result: Option<bool>, object: ObjectId) -> Reply {
    match result {
        Some(result) => outcome(call, result),
        None => Reply {
            call,
            result: Err(lost(object)),
        },
    }
}

pub(crate) fn lost(object: ObjectId) -> Error {
    Error::Lost {
        object: object.to_string(),
    }
}

pub(crate) fn too_many_wait(max: usize) -> Error {
    Error::LimitExceeded {
        limit: "waiting_requests_max".to_owned(),
        max: max as u64,
        detail: "this many requests wait for servers of the cluster to come back".to_owned(),
    }
}
