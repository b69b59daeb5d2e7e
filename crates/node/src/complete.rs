//! The steps after a job was executed: version, replicate, reply; then the object's next event.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crucial_object::{Error, ObjectId, TypeInfo};
use crucial_proto::frame::{Attempt, CallRequest, ReplicaInfo};

use crate::admit::{Hand, executed, outcome};
use crate::cell::{CallId, Change, Disposition};
use crate::ids::Millis;
use crate::job::{Checkout, Created, Outcome, Plan, Turn};
use crate::node::Node;
use crate::objects::{Event, ObjectEntry, ObjectRequest, RequestContext, SessionEnd, Task};
use crate::outputs::Outputs;
use crate::partitions::{Admission, PartitionState, Reply, Term};
use crate::replication::{Action, Entry, Home, Image, ImageBody, Replica, ViewVersion, change_of};
use crate::results::Results;
use crate::rounds::Contribution;
use crate::sync::LockMutant;

impl Node {
    /// Takes in an executed job of an object, and begins the object's next event.
    pub(crate) fn complete_object(
        &self,
        mut turn: Box<Turn>,
        (done, image): (Outcome, Option<Box<Image>>),
        now: Millis,
        out: &mut Outputs,
    ) {
        self.complete_plan(&mut turn, (done, image), now, out);
        out.recycle(std::mem::take(&mut turn.results));
        if self.next_event(&mut turn) {
            self.begin(turn, now, out);
        }
    }

    fn complete_plan(
        &self,
        turn: &mut Turn,
        (done, image): (Outcome, Option<Box<Image>>),
        now: Millis,
        out: &mut Outputs,
    ) {
        let Turn {
            entry,
            state: Checkout(state),
            event,
            plan: Some(plan),
            results,
            ..
        } = turn
        else {
            return;
        };
        let finished = |term: &Term, image: Option<Box<Image>>| Finished {
            term: *term,
            results: &*results,
            image: image.map(|image| *image),
        };
        let hand = &mut Hand {
            entry: &*entry,
            state,
        };
        match (&*plan, done) {
            (Plan::Call(term, attempt), Outcome::Called(disposition))
                if disposition != Some(Disposition::Refused) =>
            {
                let called = Called {
                    disposition,
                    attempt: attempt.as_deref(),
                };
                self.complete_call(hand, event, finished(term, image), called, now, out);
            }
            (Plan::Call(term, _) | Plan::Look(term), Outcome::Called(disposition)) => {
                self.complete_look(hand, event, finished(term, image), disposition, now, out);
            }
            (Plan::Change(term, change), Outcome::Changed) => {
                // A withdrawal has no answer of its own: the call that it withdraws is answered as one that waited.
                let is_withdrawal = matches!(change, Change::Cancel { .. });
                let context = event.context().filter(|_| !is_withdrawal);
                let finished = finished(term, image);
                let is_done =
                    self.replicate(hand, finished, (context, &|| change.clone()), now, out);
                if let (false, Some(context)) = (is_done, context)
                    && matches!(change, Change::ClearPoison { .. })
                {
                    self.send_moved(context, out);
                }
            }
            (Plan::Create(term, info), Outcome::Created(created)) => {
                if let Event::Request(context, ObjectRequest::Open(_)) = &*event {
                    match created {
                        Ok(created) => {
                            self.complete_create(hand, *term, context, *created, now, out);
                            self.move_if_replaced(entry.id, info, out);
                        }
                        Err(error) => self.reply(context, Err(&error), out),
                    }
                }
            }
            (Plan::Follow(_), Outcome::Followed(fits)) => {
                if let (false, Event::Apply(place, ..)) = (fits, &*event) {
                    self.divergences.fetch_add(1, Ordering::Relaxed);
                    self.report_divergence(entry.id, place.from, out);
                }
            }
            (Plan::Restore(origin, _), Outcome::Restored(restored)) => {
                match restored {
                    Ok(replica) => self.complete_restore(hand, *replica, now),
                    Err(_) => self.homes.prune(&origin.home),
                }
                self.complete_install(hand, event, now, out);
            }
            (Plan::Move(_, since), Outcome::Moved(result)) => {
                if result.is_ok() {
                    let image = image.map(|image| *image);
                    self.complete_move(hand, (*since, results, image), now, out);
                }
                let contribution = Contribution::Moved(entry.id, result);
                self.contribute(event.round(), contribution, now, out);
            }
            (_, done) => self.complete_task(hand, event, done, now, out),
        }
    }

    fn complete_call(
        &self,
        hand: &mut Hand<'_>,
        event: &Event,
        finished: Finished<'_>,
        called: Called<'_>,
        now: Millis,
        out: &mut Outputs,
    ) {
        let Event::Request(context, ObjectRequest::Call(request)) = event else {
            return;
        };
        let call = self.cell_call(context, request, called.attempt);
        let change = || change_of(&call);
        if !self.replicate(hand, finished, (Some(context), &change), now, out) {
            return self.send_moved(context, out);
        }
        if called.disposition == Some(Disposition::Parked) {
            self.park(hand.id(), (context, request), now, out);
        }
    }

    /// A call waits. Its object is still checked out, so that it cannot complete before this.
    fn park(
        &self,
        object: ObjectId,
        (context, request): (&RequestContext, &CallRequest),
        now: Millis,
        out: &mut Outputs,
    ) {
        if !context.session.park(context.sequence, object) {
            if LockMutant::ParkAfterEnd.is_planted() {
                return;
            }
            // The session has ended meanwhile, and did not know of this place.
            let end = match context.session.was_silent() {
                true => SessionEnd::Silent,
                false => SessionEnd::Known,
            };
            let end = Event::EndSession(context.session.id, end);
            return self.offer(object, end, out);
        }
        if request.timeout_ms > 0 {
            let after = Millis::from(request.timeout_ms);
            // The clock counts whole milliseconds: the present one has begun already.
            self.add_call_timer((context.call(), object, after), now + after + 1, out);
        }
    }

    /// A call that leaves nothing behind, or was executed before.
    fn complete_look(
        &self,
        hand: &mut Hand<'_>,
        event: &Event,
        finished: Finished<'_>,
        disposition: Option<Disposition>,
        now: Millis,
        out: &mut Outputs,
    ) {
        let (Event::Request(context, ObjectRequest::Call(request)), Some(replica)) =
            (event, &*hand.state)
        else {
            return;
        };
        let Finished { term, results, .. } = finished;
        let mut part = self.partitions.lock_of(&hand.entry.id);
        // The result of a read counts if no other server has served meanwhile.
        let admission = part.admit_own(&hand.entry.id, self.membership.standing(now));
        if !matches!(admission, Admission::Now(present) if present.since == term.since) {
            drop(part);
            return self.send_moved(context, out);
        }
        let mut actions = Vec::new();
        if part.partition.is_settled(replica) {
            drop(part);
            self.send_results(Some(context), results, out);
        } else {
            for (call, result) in results.iter() {
                let reply = Reply::new(call, result);
                part.partition.answer_read(replica, reply, &mut actions);
            }
            self.act(&mut part, actions, now, out);
            drop(part);
        }
        if disposition == Some(Disposition::Parked) {
            self.park(hand.id(), (context, request), now, out);
        }
    }

    /// Gives a change that was executed its version, and sends it to the backups; its results go out when these have it. False:
    /// the change is void, as the term has ended.
    fn replicate(
        &self,
        hand: &mut Hand<'_>,
        finished: Finished<'_>,
        (context, change): (Option<&RequestContext>, &dyn Fn() -> Change),
        now: Millis,
        out: &mut Outputs,
    ) -> bool {
        let object = hand.id();
        let Some(replica) = hand.state else {
            return true;
        };
        let Finished {
            term,
            results,
            image,
        } = finished;
        let mut part = self.partitions.lock_of(&object);
        if !part.is_in(term) {
            replica.mark_divergent(self.id(), term.epoch);
            return false;
        }
        if LockMutant::TermUnlocked.is_planted() {
            drop(part);
            part = self.partitions.lock_of(&object);
        }
        match image {
            Some(image) => part.partition.replace(object, replica, Some(image)),
            None => part
                .partition
                .change(object, replica, || (change(), results.checksum())),
        }
        let mut actions = Vec::new();
        part.partition.issue(now, &mut actions);
        let is_settled = part.partition.is_settled(replica) && self.membership.has_lease(now);
        if !is_settled {
            for (call, result) in results.iter() {
                let reply = Reply::new(call, result);
                part.partition.answer(replica, reply, &mut actions);
            }
        }
        self.act(&mut part, actions, now, out);
        drop(part);
        if is_settled {
            self.send_results(context, results, out);
        }
        true
    }

    /// Sends results: that of the request to the connection that it came on, those of calls that waited to where their sessions
    /// are.
    fn send_results(&self, context: Option<&RequestContext>, results: &Results, out: &mut Outputs) {
        for (call, result) in results.iter() {
            match context.filter(|context| context.call() == call) {
                Some(context) => self.reply(context, result, out),
                None => self.reply_parked(call, result, out),
            }
        }
    }

    /// Puts a new object into its place, in which there may be another.
    fn complete_create(
        &self,
        hand: &mut Hand<'_>,
        term: Term,
        context: &RequestContext,
        created: Created,
        now: Millis,
        out: &mut Outputs,
    ) {
        let Created { mut replica, image } = created;
        let object = hand.id();
        let mut part = self.partitions.lock_of(&object);
        if !part.is_in(term) {
            drop(part);
            self.homes.prune(&replica.origin.home);
            return self.send_moved(context, out);
        }
        let before = hand.state.as_mut();
        let (tombstones, replies) = before
            .map(|before| self.end_object(object, before))
            .unwrap_or_default();
        let gone = self.forget(hand);
        let done = (executed(context, Some(true)), tombstones);
        part.partition.create(object, &mut replica, image, done);
        part.partition.purge(&|call| self.sessions.needs(call));
        self.settle_in(hand.entry, &replica, now);
        *hand.state = Some(replica);
        let last = part.partition.last();
        let own = outcome(context.call(), true);
        let replies = replies.into_iter().chain([own]);
        self.reply_after(&mut part, (last, now), replies, out);
        drop(part);
        // The end of the earlier object runs the user's code.
        drop(gone);
    }

    fn complete_restore(&self, hand: &mut Hand<'_>, replica: Replica, now: Millis) {
        self.settle_in(hand.entry, &replica, now);
        *hand.state = Some(replica);
    }

    /// What an entry of a stream has brought is in its place, or is known not to be.
    fn complete_install(&self, hand: &mut Hand<'_>, event: &Event, now: Millis, out: &mut Outputs) {
        let Event::Apply(place, entry) = event else {
            return;
        };
        let Entry::Install { image, .. } = &**entry else {
            return;
        };
        let is_kept = match image.body {
            ImageBody::Full(_) => hand.state.as_ref().is_some_and(Replica::is_full),
            ImageBody::Stub | ImageBody::Lost => true,
        };
        let object = hand.id();
        let mut part = self.partitions.lock_of(&object);
        let mut actions = Vec::new();
        part.partition
            .installed(*place, (object, is_kept), &mut actions);
        self.act(&mut part, actions, now, out);
    }

    /// An object is here: its home knows it.
    fn settle_in(&self, entry: &Arc<ObjectEntry>, replica: &Replica, now: Millis) {
        let home = &replica.origin.home;
        if let Home::Run(run) = home {
            self.sessions.note_run(*run, now);
        }
        self.homes.insert(home, entry);
    }

    /// Replies that depend on a change and on all before it in the partition.
    pub(crate) fn reply_after(
        &self,
        part: &mut PartitionState,
        (change, now): (u64, Millis),
        replies: impl IntoIterator<Item = Reply>,
        out: &mut Outputs,
    ) {
        let mut actions = Vec::new();
        for reply in replies {
            part.partition.answer_after(change, reply, &mut actions);
        }
        part.partition.issue(now, &mut actions);
        self.act(part, actions, now, out);
    }

    /// A new version of an object's type may have come while the object was created.
    fn move_if_replaced(&self, object: ObjectId, info: &'static TypeInfo, out: &mut Outputs) {
        if let Some(newer) = self.newer_code(info) {
            self.offer(object, Event::Task(Task::Move(newer), None), out);
        }
    }

    /// The rest of a task, whose code was executed.
    fn complete_task(
        &self,
        hand: &mut Hand<'_>,
        event: &Event,
        done: Outcome,
        now: Millis,
        out: &mut Outputs,
    ) {
        let Event::Task(task, round) = event else {
            return;
        };
        let object = hand.id();
        let contribution = match (task, done) {
            (Task::Reconcile(node, epoch, _), Outcome::Encoded(image)) => {
                let mut part = self.partitions.lock_of(&object);
                if let (true, Some(replica)) = (part.partition.epoch() == *epoch, &mut *hand.state)
                {
                    part.partition
                        .reconcile_with(*node, object, replica, *image);
                    self.compared(&mut part, (*node, object), now, out);
                }
                Contribution::Nothing
            }
            (Task::Copy(incarnation, join), Outcome::Encoded(image)) => {
                let mut part = self.partitions.lock_of(&object);
                let is_same = (part.incarnation, part.partition.joins()) == (*incarnation, *join);
                if let (true, Some(replica)) = (is_same, &mut *hand.state) {
                    part.partition.copy_with(object, replica, *image);
                    self.issue(&mut part, now, out);
                }
                Contribution::Nothing
            }
            (Task::Repair(node), Outcome::Encoded(image)) => {
                let mut part = self.partitions.lock_of(&object);
                if let Some(replica) = &*hand.state {
                    part.partition.repair(*node, object, replica, *image);
                }
                self.issue(&mut part, now, out);
                Contribution::Nothing
            }
            (Task::Checksum, Outcome::Checksum(checksum)) => match &*hand.state {
                Some(replica) => Contribution::Replica(ReplicaInfo {
                    id: object,
                    version: (replica.version.epoch.0, replica.version.change),
                    checksum,
                }),
                None => Contribution::Nothing,
            },
            (Task::CheckMove(..), Outcome::Moved(result)) => Contribution::Moved(object, result),
            (Task::Save, Outcome::Saved(saved)) => Contribution::Saved(saved),
            _ => Contribution::Nothing,
        };
        self.contribute(*round, contribution, now, out);
    }

    /// An object has moved to other code, which other servers cannot be told as a change: its primary sends it whole.
    fn complete_move(
        &self,
        hand: &mut Hand<'_>,
        (since, results, image): (ViewVersion, &Results, Option<Image>),
        now: Millis,
        out: &mut Outputs,
    ) {
        let object = hand.id();
        let Some(replica) = hand.state else { return };
        let mut part = self.partitions.lock_of(&object);
        if part.partition.term() != Some(since) {
            // The present primary moves it.
            return replica.mark_divergent(self.id(), part.partition.epoch());
        }
        part.partition.replace(object, replica, image);
        let mut actions = Vec::new();
        part.partition.issue(now, &mut actions);
        for (call, result) in results.iter() {
            let reply = Reply::new(call, result);
            part.partition.answer(replica, reply, &mut actions);
        }
        self.act(&mut part, actions, now, out);
    }

    /// Sends what was issued in a partition.
    pub(crate) fn issue(&self, part: &mut PartitionState, now: Millis, out: &mut Outputs) {
        let mut actions: Vec<Action<Reply>> = Vec::new();
        part.partition.issue(now, &mut actions);
        self.act(part, actions, now, out);
    }

    /// Replies on the connection that a request came on.
    pub(crate) fn reply(
        &self,
        context: &RequestContext,
        result: Result<&[u8], &Error>,
        out: &mut Outputs,
    ) {
        let to = context.connection.id;
        out.reply(to, context.sequence, result, self.limits.frame_bytes_max);
    }

    /// Replies to a call that waited, on whichever connection its session has now. Without one the client asks again when it is
    /// back.
    pub(crate) fn reply_parked(
        &self,
        call: CallId,
        result: Result<&[u8], &Error>,
        out: &mut Outputs,
    ) {
        let Some(session) = self.sessions.find(call.session) else {
            return;
        };
        session.unpark(call.sequence);
        if let Some(to) = session.take_reply(call.sequence, result) {
            out.reply(to, call.sequence, result, self.limits.frame_bytes_max);
        }
    }
}

/// A call that was executed.
struct Called<'a> {
    disposition: Option<Disposition>,
    /// The attempt that it was executed for.
    attempt: Option<&'a Attempt>,
}

/// A change or a look that was executed.
struct Finished<'a> {
    term: Term,
    results: &'a Results,
    image: Option<Image>,
}
