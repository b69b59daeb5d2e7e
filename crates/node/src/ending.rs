//! The end of sessions: by goodbye, by a newer attempt, by silence.

use crucial_object::{ObjectId, SessionId, ThreadId};

use crate::ids::Millis;
use crate::leases::kept_ms;
use crate::node::Node;
use crate::objects::{CallEnd, Event, SessionEnd};
use crate::outputs::Outputs;
use crate::replication::Mutant;
use crate::rounds::RoundKind;

impl Node {
    /// Ends a session.
    pub(crate) fn end_session(
        &self,
        id: SessionId,
        end: SessionEnd,
        now: Millis,
        out: &mut Outputs,
    ) {
        self.end(id, None, (end, now), out);
    }

    /// Ends the session that runs an attempt of a cloud thread that may not go on. A worker that has begun its next thread
    /// meanwhile keeps its session.
    pub(crate) fn end_attempt(
        &self,
        session: SessionId,
        thread: ThreadId,
        now: Millis,
        out: &mut Outputs,
    ) {
        self.end(session, Some(thread), (SessionEnd::Known, now), out);
    }

    fn end(
        &self,
        id: SessionId,
        running: Option<ThreadId>,
        (end, now): (SessionEnd, Millis),
        out: &mut Outputs,
    ) {
        let is_known = end == SessionEnd::Known;
        let Some(ended) = self.sessions.end(id, running, (is_known, now)) else {
            return;
        };
        if let Some(connection) = ended.connection {
            out.close(connection);
        }
        if let Some(run) = ended.run {
            let kind = RoundKind::Remove {
                context: None,
                removed: 0,
            };
            self.remove_all(kind, self.homes.of_run(&run), out);
        }
        self.tell_ended((id, end), ended.objects, now, out);
        for session in ended.sessions {
            // The run may live on at other servers, if it was silent: then its threads may repeat their calls there.
            self.end(session, None, (end, now), out);
        }
    }

    /// The attempts of a thread before this one are fenced: those of their calls that wait here, of sessions that have not
    /// come since their objects came, give up their places.
    pub(crate) fn end_waiting(&self, thread: ThreadId, before: u32, out: &mut Outputs) {
        if Mutant::FencedWaitsOn.is_planted() {
            return;
        }
        for waiting in self.sessions.take_waiting(thread, before) {
            let event = Event::EndCall(waiting.call, CallEnd::Fenced);
            self.offer(waiting.object, event, out);
        }
    }

    /// Tells objects that a session has ended.
    pub(crate) fn tell_ended(
        &self,
        (session, end): (SessionId, SessionEnd),
        objects: Vec<ObjectId>,
        now: Millis,
        out: &mut Outputs,
    ) {
        let is_known = end == SessionEnd::Known;
        if is_known {
            self.forget_requests(session, now, out);
        }
        for object in objects {
            self.offer(object, Event::EndSession(session, end), out);
        }
        self.sessions.on_ended(session, is_known, now);
    }

    /// Nobody will repeat the creations and deletions of a session.
    fn forget_requests(&self, session: SessionId, now: Millis, out: &mut Outputs) {
        for id in self.partitions.ids() {
            let mut part = self.partitions.lock(id);
            if part.partition.is_primary() {
                part.partition.end_session(session);
                self.issue(&mut part, now, out);
            }
        }
    }

    /// Ends the sessions and runs whose leases have lapsed.
    pub(crate) fn end_lapsed(&self, now: Millis, out: &mut Outputs) {
        let lease_ms = self.client_lease_ms;
        for session in self.sessions.lapsed(now, lease_ms) {
            tracing::debug!(session = session.0, "lease lapsed");
            self.end_session(session, SessionEnd::Silent, now, out);
        }
        for (session, objects) in self.sessions.absent(now, lease_ms) {
            tracing::debug!(session = session.0, "an expected session did not come");
            self.tell_ended((session, SessionEnd::Silent), objects, now, out);
        }
        let kept_ms = match Mutant::RecordsGoEarly.is_planted() {
            true => 0,
            false => kept_ms(lease_ms, self.membership.lease_ms()),
        };
        self.sessions.forget_ended(now.saturating_sub(kept_ms));
        let has_objects = |run: &_| !self.homes.of_run(run).is_empty();
        for run in self
            .sessions
            .orphans(now, (lease_ms, kept_ms), &has_objects)
        {
            for object in self.homes.of_run(&run) {
                self.offer(object, Event::Remove(None), out);
            }
        }
    }
}
