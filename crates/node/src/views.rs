//! Decisions of the control group, and time: views, leases, incarnations, time-outs.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crucial_object::ObjectId;

use crate::cell::CallId;
use crate::ids::Millis;
use crate::leases;
use crate::node::Node;
use crate::objects::{CallEnd, Event, Task};
use crate::outputs::{Output, Outputs};
use crate::replication::{Grant, Incarnation, View};
use crate::timers::Timer;

impl Node {
    /// The control group has decided a view.
    pub(crate) fn on_view(&self, view: Arc<View>, now: Millis, out: &mut Outputs) {
        if view.version <= self.version() {
            return;
        }
        self.on_modules_view(&view, now, out);
        for connection in self.peers.on_view(&view, self.id()) {
            out.close(connection);
        }
        for id in self.partitions.ids() {
            let mut actions = Vec::new();
            let mut part = self.partitions.lock(id);
            part.partition.on_view(&view, now, &mut actions);
            self.act(&mut part, actions, now, out);
        }
        self.membership.set_view(view);
        for session in self.early.sessions() {
            self.release_early(session, out);
        }
        let view = self.membership.view();
        let is_here = |object: &ObjectId| view.primary(view.partition(object)) == Some(self.id());
        for session in self.sessions.live() {
            session.keep_parked(is_here);
            self.send_routes(&session, out);
        }
        self.peers.dial(now, out);
        self.on_standing_changed(now, out);
        self.keep_ticking(now, out);
    }

    /// This server belongs to a cluster. In place of another one, if that was rescued: nothing that servers of the old
    /// cluster have to say counts any more.
    pub(crate) fn on_cluster(&self, cluster: u64, out: &mut Outputs) {
        let before = self.membership.cluster();
        self.membership.set_cluster(cluster);
        if before != 0 && before != cluster {
            self.membership.end_lease();
            for connection in self.peers.clear() {
                out.close(connection);
            }
        }
    }

    /// A lease was granted.
    pub(crate) fn on_lease(&self, grant: Grant, now: Millis, out: &mut Outputs) {
        self.membership.renew(grant);
        self.surpass(grant, out);
        self.on_standing_changed(now, out);
    }

    /// Gets partitions out of epochs that do not exist, where a message was wrong.
    fn surpass(&self, grant: Grant, out: &mut Outputs) {
        let view = self.membership.view();
        if view.version < grant.view {
            return;
        }
        let mut was_primary = false;
        for id in self.partitions.ids() {
            let command = self
                .partitions
                .lock(id)
                .partition
                .surpass(&view, grant.sent_ms);
            let Some(command) = command else { continue };
            tracing::warn!(?id, "another server knew an epoch that does not exist");
            was_primary |= view.primary(id) == Some(self.id());
            out.push(Output::Propose(command));
        }
        if was_primary {
            // The answers that waited in the term are lost, and no view tells the clients to ask again.
            for session in self.sessions.live() {
                if let Some(connection) = session.connection() {
                    out.close(connection);
                }
            }
        }
    }

    /// Sends replies that waited for a lease, and admits again what waits for one.
    pub(crate) fn on_standing_changed(&self, now: Millis, out: &mut Outputs) {
        if !self.membership.has_lease(now) {
            return;
        }
        for reply in self.membership.take_withheld() {
            self.deliver(&reply, out);
        }
        self.answer_held_pings(out);
        self.answer_about_modules(out);
        for id in self.partitions.ids() {
            self.retry(&mut self.partitions.lock(id), out);
        }
    }

    /// This server begins a new incarnation: what it had in the last one is nobody's.
    pub(crate) fn begin_incarnation(
        &self,
        incarnation: Incarnation,
        now: Millis,
        out: &mut Outputs,
    ) {
        self.membership.begin(incarnation);
        for connection in self.peers.clear() {
            out.close(connection);
        }
        for round in self.partitions.reset((self.id(), incarnation)) {
            self.rounds.forget(round);
        }
        for connection in self.sessions.clear() {
            out.close(connection);
        }
        for object in self.objects.all() {
            self.offer(object, Event::Task(Task::Forget, None), out);
        }
        self.homes.clear();
        self.early.clear();
        self.begin_modules(incarnation, now, out);
        if !self.watches_leases.swap(true, Ordering::Relaxed) {
            let at = now + leases::pause(self.client_lease_ms);
            self.add_timer(at, Timer::Leases, out);
        }
    }

    /// Something is due.
    pub(crate) fn on_timer(&self, timer: Timer, now: Millis, out: &mut Outputs) {
        match timer {
            Timer::Call(call, object, after) => {
                if self.exists(&object) {
                    self.offer(object, Event::EndCall(call, CallEnd::TimedOut(after)), out);
                }
            }
            Timer::Hello(connection) => {
                if let Some(connection) = connection.upgrade() {
                    self.on_hello_timeout(&connection, out);
                }
            }
            Timer::Early(session) => self.give_up_early(session, now, out),
            Timer::Round(round) => self.give_up_round(round, out),
            Timer::Leases => {
                self.look_at_leases(now, out);
                self.add_timer(
                    now + leases::pause(self.client_lease_ms),
                    Timer::Leases,
                    out,
                );
            }
            Timer::Tick => {
                self.ticks.store(false, Ordering::Relaxed);
                self.tick(now, out);
                self.keep_ticking(now, out);
            }
        }
    }

    /// Whether a timer has to be kept.
    pub(crate) fn timer_has_meaning(&self, timer: &Timer) -> bool {
        match timer {
            Timer::Call(call, ..) => {
                let session = self.sessions.find(call.session);
                session.is_some_and(|session| session.is_parked(call.sequence))
            }
            Timer::Hello(connection) => connection.strong_count() > 0,
            Timer::Early(session) => self.early.has(*session),
            Timer::Round(round) => self.rounds.goes_on(*round),
            Timer::Leases | Timer::Tick => true,
        }
    }

    fn look_at_leases(&self, now: Millis, out: &mut Outputs) {
        let has_lease = self.membership.has_lease(now);
        let look = self
            .lease_watch
            .lock()
            .look(now, self.client_lease_ms, has_lease);
        if look.forgives {
            self.sessions.forgive(now);
        }
        if look.ends_silent {
            self.end_lapsed(now, out);
        }
    }

    /// Time has passed: what was not answered is sent again, and partitions go on to where placement wants them.
    fn tick(&self, now: Millis, out: &mut Outputs) {
        let view = self.membership.view();
        for id in self.partitions.ids() {
            let mut part = self.partitions.lock(id);
            if part.partition.is_busy(view.version) {
                let mut actions = Vec::new();
                part.partition.tick(&view, now, &mut actions);
                self.act(&mut part, actions, now, out);
            }
        }
        self.tick_modules(now, out);
        self.peers.dial(now, out);
    }

    /// Sees to ticks, as long as there is something that they can do: other servers, or modules on their way.
    pub(crate) fn keep_ticking(&self, now: Millis, out: &mut Outputs) {
        let is_needed = !self.peers.is_empty() || self.modules_need_ticks();
        if is_needed && !self.ticks.swap(true, Ordering::Relaxed) {
            self.add_timer(now + self.tick_ms, Timer::Tick, out);
        }
    }

    pub(crate) fn add_timer(&self, at: Millis, timer: Timer, out: &mut Outputs) {
        if self.timers.add(at, timer) {
            out.push(Output::Wake);
        }
    }

    /// The call, if it still waits in the object at this time, ends. It was to wait for `after`.
    pub(crate) fn add_call_timer(
        &self,
        (call, object, after): (CallId, ObjectId, Millis),
        at: Millis,
        out: &mut Outputs,
    ) {
        self.add_timer(at, Timer::Call(call, object, after), out);
    }
}
