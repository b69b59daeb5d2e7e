//! What happens to an object that its server shares with others.

use std::sync::Arc;
use std::time::Duration;

use crucial_cluster::{Entry, Lifecycle, NodeId, Replica, change_of};
use crucial_core::frame::CallRequest;
use crucial_core::{Admission as Known, Call, CallId, Change, Disposition, Turn};
use crucial_object::{Error, Result, SessionId, TypeInfo};

use super::act::{drop_object, replica_of};
use super::share::{Admission, Reign, Share};
use super::{Cluster, Reply, Results};
use crate::service::{Effects, Service, lost};
use crate::slot::{Arrival, Ending, Event, Held, Item, Slot, Visit};

/// With fewer records nobody looks which of them are needed.
const RECORDS_MIN: usize = 64;

/// What was to be done, and could not be yet, is tried again after this, where nobody else says when.
const LATER: Duration = Duration::from_millis(200);

/// An object in our hands, and where it is.
pub(super) struct Place<'a> {
    pub cluster: &'a Cluster,
    pub slot: &'a Arc<Slot>,
}

impl<'a> Place<'a> {
    pub fn share(&self) -> parking_lot::MutexGuard<'a, Share> {
        self.cluster.share(self.cluster.partition(&self.slot.id))
    }

    /// The same, if a reign goes on; else the request is sent elsewhere.
    pub fn share_in(
        &self,
        reign: Reign,
        arrival: &Arrival,
        effects: &mut Effects<'_>,
    ) -> Option<parking_lot::MutexGuard<'a, Share>> {
        let share = self.share();
        if share.reigns(reign) {
            return Some(share);
        }
        drop(share);
        effects.moved(arrival, self.cluster);
        None
    }
}

impl Service {
    /// Handles an event of an object that is ours now.
    pub fn handle_shared(
        &self,
        cluster: &Cluster,
        slot: &Arc<Slot>,
        held: &mut Held,
        event: Event,
        effects: &mut Effects<'_>,
    ) {
        let place = Place { cluster, slot };
        match event {
            Event::Call(..)
            | Event::ClearPoison(_)
            | Event::Withdraw(_)
            | Event::Open(..)
            | Event::Delete(_) => self.request(&place, held, event, effects),
            Event::TimeOut(call, after) => self.time_is_up(&place, held, call, after, effects),
            Event::EndSession(..) | Event::Remove(_) => self.own(&place, held, event, effects),
            Event::Visit(visit) => self.visit_shared(&place, held, &visit, effects),
            Event::Follow(from, entry) => self.follow(&place, held, from, *entry, effects),
            Event::Look(look) => look(self, slot, held, effects),
            Event::End(_) => drop_object(self, slot, held, effects),
        }
    }

    /// A request of a client: executed here, or later, or elsewhere.
    fn request(&self, place: &Place<'_>, held: &mut Held, event: Event, effects: &mut Effects<'_>) {
        let Some(arrival) = event.arrival() else {
            return;
        };
        // The object is ours, and so once and for all: whoever has an answer was executed before, and a copy of the
        // request that was on its way all the while must not be; nor a request of a session that has ended.
        let is_withdrawal = matches!(event, Event::Withdraw(_));
        if !arrival.session.accepts(&arrival.connection)
            || !(is_withdrawal || arrival.session.needs(arrival.sequence))
        {
            return;
        }
        let mut share = place.share();
        let admission = match share.admit(place.cluster, arrival, self.now_ms()) {
            Admission::Now(_) if self.lacks_type(place.cluster, &event) => Admission::Later,
            admission => admission,
        };
        let reign = match admission {
            Admission::Now(reign) => reign,
            Admission::Elsewhere => {
                drop(share);
                if !is_withdrawal {
                    effects.moved(arrival, place.cluster);
                }
                return;
            }
            Admission::Later => {
                let max = self.limits.waiting_requests_max;
                let refused = share.wait(place.cluster, place.slot.id, event, max);
                drop(share);
                if let Some(arrival) = refused.as_ref().and_then(Event::arrival) {
                    effects.answer(arrival, Err(&too_many_wait(max)));
                }
                return;
            }
        };
        let done = share.partition.done(arrival.call());
        drop(share);
        match event {
            Event::Call(arrival, request) => {
                self.call_shared(
                    place,
                    held,
                    reign,
                    done.is_some(),
                    (&arrival, &request),
                    effects,
                );
            }
            Event::ClearPoison(arrival) => {
                self.clear_poison_shared(place, held, reign, done.is_some(), &arrival, effects);
            }
            Event::Withdraw(arrival) => {
                let (call, error) = (arrival.call(), Error::Cancelled);
                self.end_parked_call(place, held, reign, call, error, effects);
            }
            Event::Open(arrival, request) => {
                self.open_shared(place, held, reign, done, (&arrival, *request), effects);
            }
            Event::Delete(arrival) => {
                self.delete_shared(place, held, reign, done, &arrival, effects);
            }
            _ => {}
        }
    }

    /// Whether the type of an object that is to be made may be one of a module that is still to be taken in here.
    fn lacks_type(&self, cluster: &Cluster, event: &Event) -> bool {
        let Event::Open(_, request) = event else {
            return false;
        };
        let may_be_new = |info: Option<&TypeInfo>| info.is_none_or(|info| info.module.is_some());
        cluster.modules.is_behind() && may_be_new(self.types.find(&request.type_name))
    }

    fn call_shared(
        &self,
        place: &Place<'_>,
        held: &mut Held,
        reign: Reign,
        is_buried: bool,
        (arrival, request): (&Arrival, &CallRequest),
        effects: &mut Effects<'_>,
    ) {
        let replica = replica_of(held).filter(|replica| replica.is_full() && !is_buried);
        let Some(replica) = replica else {
            return self.answer_lost(place, reign, arrival, effects);
        };
        let needed = |call: CallId| self.sessions.needs(call);
        if let Some(forget) = replica.purge(&needed, RECORDS_MIN) {
            self.apply(place, replica, reign, None, &forget, effects);
        }
        let call = Call {
            id: arrival.call(),
            acked: arrival.acked,
            recording: self.recording(&arrival.session),
            method: request.method,
            args: &request.args,
        };
        let Some(cell) = replica.cell() else { return };
        let attends = cell.info().attends || arrival.session.recorded;
        let known = cell.admits(&call);
        if attends && !arrival.session.attend(place.slot) {
            return;
        }
        let disposition = match known {
            Known::Change => {
                let run = |replica: &mut Replica, turn: &mut Turn<'_>| replica.call(&call, turn);
                let change = || change_of(&call);
                match self.change(place, replica, reign, Some(arrival), run, change, effects) {
                    Some(disposition) => disposition,
                    None => return effects.moved(arrival, place.cluster),
                }
            }
            Known::Known | Known::Look => {
                self.look_shared(place, replica, reign, arrival, &call, effects)
            }
        };
        if disposition == Some(Disposition::Parked) {
            self.parked(place, replica, reign, arrival, request, effects);
        }
    }

    /// A call waits. The object is still ours, so that its completion can not come before.
    fn parked(
        &self,
        place: &Place<'_>,
        replica: &mut Replica,
        reign: Reign,
        arrival: &Arrival,
        request: &CallRequest,
        effects: &mut Effects<'_>,
    ) {
        if !arrival.session.park(arrival.sequence, place.slot) {
            let session = arrival.session.id;
            let ending = (session, Ending::Known);
            return self.end_session_shared(place, replica, reign, ending, effects);
        }
        if request.timeout_ms > 0 {
            let after = Duration::from_millis(request.timeout_ms.into());
            self.keeper.time_out(arrival.call(), place.slot, after);
        }
    }

    /// A call that leaves nothing behind, or was executed before.
    fn look_shared(
        &self,
        place: &Place<'_>,
        replica: &mut Replica,
        reign: Reign,
        arrival: &Arrival,
        call: &Call<'_>,
        effects: &mut Effects<'_>,
    ) -> Option<Disposition> {
        let mut results = std::mem::take(&mut effects.results);
        let mut out = std::mem::take(&mut effects.scratch);
        let mut turn = Turn::new(&mut results, &mut out);
        turn.parked_max = self.limits.parked_calls_max;
        let disposition = replica.cell().map(|cell| cell.call(call, &mut turn));
        effects.scratch = out;
        let mut share = place.share();
        // What was seen counts if nobody else has served meanwhile.
        let admitted = share.admit_own(place.cluster, self.now_ms());
        if !matches!(admitted, Admission::Now(present) if present.since == reign.since) {
            drop(share);
            results.clear();
            effects.results = results;
            effects.moved(arrival, place.cluster);
            return None;
        }
        self.send_results(
            place,
            &mut share,
            replica,
            Vec::new(),
            results,
            Some(arrival),
            effects,
        );
        disposition
    }

    /// Does a change at the primary, and tells the others. `None`: it is void, as the reign has ended.
    #[expect(clippy::too_many_arguments, reason = "all that a change is about")]
    pub(super) fn change<T>(
        &self,
        place: &Place<'_>,
        replica: &mut Replica,
        reign: Reign,
        arrival: Option<&Arrival>,
        run: impl FnOnce(&mut Replica, &mut Turn<'_>) -> T,
        change: impl Fn() -> Change,
        effects: &mut Effects<'_>,
    ) -> Option<T> {
        let mut results = std::mem::take(&mut effects.results);
        let mut out = std::mem::take(&mut effects.scratch);
        let mut turn = Turn::new(&mut results, &mut out);
        turn.parked_max = self.limits.parked_calls_max;
        let value = run(replica, &mut turn);
        effects.scratch = out;
        let mut share = place.share();
        if !share.reigns(reign) {
            replica.stray(reign.epoch);
            results.clear();
            effects.results = results;
            return None;
        }
        let object = place.slot.id;
        if results.may_differ() {
            share.partition.replace(object, replica);
        } else {
            let entry = || (change(), results.checksum());
            share.partition.change(object, replica, entry);
        }
        let mut actions = Vec::new();
        share.partition.issue(self.now_ms(), &mut actions);
        self.send_results(
            place, &mut share, replica, actions, results, arrival, effects,
        );
        Some(value)
    }

    /// Does a change that is no method's, and tells the others; false: it is void, as the reign has ended.
    fn apply(
        &self,
        place: &Place<'_>,
        replica: &mut Replica,
        reign: Reign,
        arrival: Option<&Arrival>,
        change: &Change,
        effects: &mut Effects<'_>,
    ) -> bool {
        let run = |replica: &mut Replica, turn: &mut Turn<'_>| replica.apply(change, turn);
        let change = || change.clone();
        self.change(place, replica, reign, arrival, run, change, effects)
            .is_some()
    }

    /// Sends results, or lets them wait for the acknowledgements of what they depend on.
    #[expect(clippy::too_many_arguments, reason = "all that an answer is about")]
    fn send_results(
        &self,
        place: &Place<'_>,
        share: &mut Share,
        replica: &Replica,
        mut actions: Vec<crucial_cluster::Action<Reply>>,
        mut results: Results,
        arrival: Option<&Arrival>,
        effects: &mut Effects<'_>,
    ) {
        let is_settled = share.partition.is_settled(replica);
        if is_settled && place.cluster.has_lease(self.now_ms()) {
            for (call, result) in results.iter() {
                match arrival.filter(|arrival| arrival.call() == call) {
                    Some(arrival) => effects.answer(arrival, result),
                    None => crucial_core::Replies::reply(effects, call, result),
                }
            }
        } else {
            for (call, result) in results.iter() {
                let result = result.map(<[u8]>::to_vec).map_err(Clone::clone);
                share
                    .partition
                    .answer(replica, Reply { call, result }, &mut actions);
            }
        }
        self.act(place.cluster, share, actions, effects);
        results.clear();
        effects.results = results;
    }

    /// Answers what depends on all that was done in the partition.
    pub(super) fn answer_after(
        &self,
        place: &Place<'_>,
        share: &mut Share,
        change: u64,
        replies: impl IntoIterator<Item = Reply>,
        effects: &mut Effects<'_>,
    ) {
        let mut actions = Vec::new();
        for reply in replies {
            share.partition.answer_after(change, reply, &mut actions);
        }
        share.partition.issue(self.now_ms(), &mut actions);
        self.act(place.cluster, share, actions, effects);
    }

    /// There is no such object, or it is another one by now.
    pub(super) fn answer_lost(
        &self,
        place: &Place<'_>,
        reign: Reign,
        arrival: &Arrival,
        effects: &mut Effects<'_>,
    ) {
        let Some(mut share) = place.share_in(reign, arrival, effects) else {
            return;
        };
        self.note(&mut share, arrival, None);
        let last = share.partition.last();
        let reply = Reply {
            call: arrival.call(),
            result: Err(lost(place.slot.id)),
        };
        self.answer_after(place, &mut share, last, [reply], effects);
    }

    /// A late copy of the request must find that it was executed.
    pub(super) fn note(&self, share: &mut Share, arrival: &Arrival, result: Option<bool>) {
        share.partition.note(done(arrival, result));
        share.partition.purge(&|call| self.sessions.needs(call));
    }

    fn clear_poison_shared(
        &self,
        place: &Place<'_>,
        held: &mut Held,
        reign: Reign,
        is_buried: bool,
        arrival: &Arrival,
        effects: &mut Effects<'_>,
    ) {
        let replica = replica_of(held).filter(|replica| replica.is_full() && !is_buried);
        let Some(replica) = replica else {
            return self.answer_lost(place, reign, arrival, effects);
        };
        let change = Change::ClearPoison {
            id: arrival.call(),
            acked: arrival.acked,
        };
        if !self.apply(place, replica, reign, Some(arrival), &change, effects) {
            effects.moved(arrival, place.cluster);
        }
    }

    /// Ends a call, if it waits.
    fn end_parked_call(
        &self,
        place: &Place<'_>,
        held: &mut Held,
        reign: Reign,
        call: CallId,
        error: Error,
        effects: &mut Effects<'_>,
    ) {
        let Some(replica) = replica_of(held) else {
            return;
        };
        if !replica.cell().is_some_and(|cell| cell.is_parked(call)) {
            return;
        }
        let change = Change::Cancel { call, error };
        self.apply(place, replica, reign, None, &change, effects);
    }

    fn time_is_up(
        &self,
        place: &Place<'_>,
        held: &mut Held,
        call: CallId,
        after: Duration,
        effects: &mut Effects<'_>,
    ) {
        let admitted = place.share().admit_own(place.cluster, self.now_ms());
        match admitted {
            Admission::Now(reign) => {
                self.end_parked_call(place, held, reign, call, Error::TimedOut { after }, effects);
            }
            Admission::Later => self.keeper.time_out_late(call, place.slot, (LATER, after)),
            // Its client sends it to who is the primary now, who counts anew.
            Admission::Elsewhere => {}
        }
    }

    /// What the server of the primary does by itself.
    fn own(&self, place: &Place<'_>, held: &mut Held, event: Event, effects: &mut Effects<'_>) {
        let mut share = place.share();
        let reign = match share.admit_own(place.cluster, self.now_ms()) {
            Admission::Now(reign) => reign,
            Admission::Elsewhere => return,
            Admission::Later => {
                share.wait(place.cluster, place.slot.id, event, usize::MAX);
                return;
            }
        };
        drop(share);
        match event {
            Event::EndSession(session, ending) => {
                if let Some(replica) = replica_of(held) {
                    self.end_session_shared(place, replica, reign, (session, ending), effects);
                }
            }
            Event::Remove(who) => {
                let removed = self.remove_shared(place, held, reign, None, effects);
                if let (Some(who), true) = (who, removed) {
                    // Who asked may have stopped waiting.
                    let _ = who.send(());
                }
            }
            _ => {}
        }
    }

    fn end_session_shared(
        &self,
        place: &Place<'_>,
        replica: &mut Replica,
        reign: Reign,
        (session, ending): (SessionId, Ending),
        effects: &mut Effects<'_>,
    ) {
        let (concerns, change) = match ending {
            Ending::Known => (replica.concerns(session), Change::EndSession(session)),
            Ending::Silent => (replica.is_held_by(session), Change::Lapse(session)),
        };
        if !concerns {
            return;
        }
        self.apply(place, replica, reign, None, &change, effects);
    }

    /// Somebody does something with the object that others can not be told as a change: the primary sends it whole.
    fn visit_shared(
        &self,
        place: &Place<'_>,
        held: &mut Held,
        visit: &Visit,
        effects: &mut Effects<'_>,
    ) {
        let Some(replica) = replica_of(held) else {
            return;
        };
        let Some(cell) = replica.cell() else { return };
        // In whatever phase, with a lease or without: its results wait as others do.
        let since = place.share().partition.reign_since();
        if visit.changes && since.is_none() {
            return;
        }
        let mut results = Results::default();
        let mut out = Vec::new();
        let mut turn = Turn::new(&mut results, &mut out);
        let Some(outcome) = (visit.act)(self, cell, &mut turn) else {
            return;
        };
        if let (true, Err(error)) = (visit.changes, &outcome) {
            tracing::warn!(object = %place.slot.id, %error, "an object keeps its old code");
        } else if visit.changes {
            let mut share = place.share();
            if share.partition.reign_since() == since {
                share.partition.replace(place.slot.id, replica);
                let mut actions = Vec::new();
                share.partition.issue(self.now_ms(), &mut actions);
                self.send_results(place, &mut share, replica, actions, results, None, effects);
            } else {
                // Whoever reigns now moves it.
                return replica.stray(share.partition.epoch());
            }
        }
        // Whoever asked may have stopped waiting.
        let _ = visit.outcome.send(outcome);
    }

    /// What the primary did, done here too.
    fn follow(
        &self,
        place: &Place<'_>,
        held: &mut Held,
        from: NodeId,
        entry: Entry,
        effects: &mut Effects<'_>,
    ) {
        match entry {
            Entry::Apply {
                previous,
                version,
                change,
                checksum,
                ..
            } => {
                let at = (
                    place.share().partition.level(),
                    self.limits.parked_calls_max,
                );
                let fits = replica_of(held).is_some_and(|replica| {
                    replica.follow(previous, version, &change, checksum, at)
                });
                if !fits {
                    tracing::debug!(object = %place.slot.id, "another state than the primary's");
                    let share = place.share();
                    let message = share.partition.diverged(place.slot.id);
                    place.cluster.say(from, share.id, &message, effects);
                }
            }
            Entry::Install { image, .. } => {
                let replica = self.restore(place, *image);
                self.sessions
                    .note_object(&replica.origin.home, place.slot, self.now_ms());
                *held = Some(Item::Shared(Box::new(replica)));
            }
            Entry::Drop { .. } => drop_object(self, place.slot, held, effects),
            // The partition keeps these.
            Entry::Reset { .. } | Entry::Level { .. } | Entry::Done(_) => {}
        }
    }

    fn restore(&self, place: &Place<'_>, mut image: crucial_cluster::Image) -> Replica {
        let find = |name: &str, module| self.code_of(place.cluster, name, module);
        match Replica::from_image(&image, find) {
            Ok(replica) => replica,
            Err(error) => {
                tracing::error!(object = %place.slot.id, %error, "a replica can not be kept here");
                // With the next change the primary hears that it is not here, and sends it again.
                image.body = crucial_cluster::ImageBody::Lost;
                let nothing: Result<Replica> = Replica::from_image(&image, find);
                nothing.expect("what is lost has no type")
            }
        }
    }
}

/// A request that is no call, as it was executed.
pub(super) fn done(arrival: &Arrival, result: Option<bool>) -> Lifecycle {
    Lifecycle {
        call: arrival.call(),
        acked: arrival.acked,
        result,
    }
}

fn too_many_wait(max: usize) -> Error {
    Error::LimitExceeded {
        limit: "waiting_requests_max".to_owned(),
        max: max as u64,
        detail: "so many requests wait for servers of the cluster to come back".to_owned(),
    }
}
