//! All sessions and runs of a server.

use std::collections::BTreeSet;
use std::sync::Arc;

use crucial_object::{Error, ObjectId, Result, RunId, SessionId, ThreadId};
use crucial_proto::frame::{Attempt, Fence, Hello};

use super::client::{Places, Session};
use super::presence::{Expectation, Presence, WaitingCall};
use super::runs::{Fenced, Runs};
use crate::cell::CallId;
use crate::hash::{HashSeed, Map};
use crate::ids::{ConnectionId, Millis};
use crate::replication::Mutant;
use crate::sync::{Mutex, RwLock};

/// All sessions and runs of a server. Locks are taken in the order of the fields, and for a moment each.
pub(crate) struct Sessions {
    seed: HashSeed,
    sessions: RwLock<Known>,
    runs: Mutex<Runs>,
}

struct Known {
    presence: Map<SessionId, Presence>,
    live: usize,
    /// The threads of which calls wait, of sessions that have not come yet.
    waiting: BTreeSet<(ThreadId, SessionId)>,
}

/// A session that said hello.
pub(crate) struct Greeting {
    pub session: Arc<Session>,
    /// Whether its calls may go on: false if it has ended here.
    pub resumed: bool,
    /// The session of an older attempt of its thread, which has to end.
    pub older: Option<SessionId>,
}

/// The work that is left when a session has ended.
#[derive(Default)]
pub(crate) struct Ended {
    /// Objects that have to be told.
    pub objects: Vec<ObjectId>,
    /// Its connection, which has to be closed.
    pub connection: Option<ConnectionId>,
    /// The run that ended with it.
    pub run: Option<RunId>,
    /// Sessions that end with the run.
    pub sessions: Vec<SessionId>,
}

impl Known {
    fn live(&self, id: SessionId) -> Option<&Arc<Session>> {
        match self.presence.get(&id) {
            Some(Presence::Live(session)) => Some(session),
            _ => None,
        }
    }

    fn all_live(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.presence
            .values()
            .filter_map(|presence| match presence {
                Presence::Live(session) => Some(session),
                _ => None,
            })
    }

    /// What is expected of a session that has not come.
    fn expectation(&mut self, id: SessionId) -> Option<&mut Expectation> {
        match self.presence.get_mut(&id)? {
            Presence::Expected(expectation) => Some(expectation),
            Presence::Ending { late } => late.as_mut(),
            _ => None,
        }
    }

    /// A session is not expected any more.
    fn take_places(&mut self, expectation: Expectation) -> Places {
        for waiting in &expectation.waiting {
            let thread = (waiting.attempt.thread, waiting.call.session);
            self.waiting.remove(&thread);
        }
        expectation.places
    }

    /// Sets what is known of a session.
    fn set(&mut self, id: SessionId, presence: Presence) {
        self.live += usize::from(matches!(presence, Presence::Live(_)));
        if let Some(Presence::Live(_)) = self.presence.insert(id, presence) {
            self.live -= 1;
        }
    }
}

impl Sessions {
    pub fn new(seed: HashSeed) -> Sessions {
        Sessions {
            seed,
            sessions: RwLock::new(Known {
                presence: seed.map(),
                live: 0,
                waiting: BTreeSet::new(),
            }),
            runs: Mutex::new(Runs::new(seed)),
        }
    }

    /// How many sessions live here.
    pub fn len(&self) -> usize {
        self.sessions.read().live
    }

    pub fn find(&self, id: SessionId) -> Option<Arc<Session>> {
        self.sessions.read().live(id).cloned()
    }

    /// Whether the session of a call lives, and can still wait for it.
    pub fn needs(&self, call: CallId) -> bool {
        let sessions = self.sessions.read();
        match sessions.presence.get(&call.session) {
            Some(Presence::Live(session)) => session.needs(call.sequence),
            // When objects come here, the sessions that have records of them are expected, and end if they do not come.
            Some(presence) => presence.keeps_results(),
            None => false,
        }
    }

    /// A client says hello: starts its session here, or takes it up again.
    pub fn hello(&self, hello: &Hello, now: Millis) -> Result<Greeting> {
        let mut sessions = self.sessions.write();
        match sessions.presence.get(&hello.session) {
            Some(Presence::Ending { .. }) => Err(Error::Unavailable {
                address: "the server".to_owned(),
                reason: "what the session held is being given back still".to_owned(),
            }),
            Some(Presence::Live(session)) => self.take_up(session, hello, now),
            _ => self.begin_session(&mut sessions, hello, now),
        }
    }

    fn take_up(&self, session: &Arc<Session>, hello: &Hello, now: Millis) -> Result<Greeting> {
        if session.run != hello.run || session.namespace != hello.namespace {
            return Err(Error::Protocol {
                detail: "this session id is in use: choose another".to_owned(),
            });
        }
        let mut runs = self.runs.lock();
        let older = match hello.attempt {
            Some(attempt) => runs.begin(session, attempt)?,
            None => None,
        };
        if hello.owner {
            runs.join(hello, now)?;
        }
        session.set_seen(now);
        Ok(Greeting {
            session: session.clone(),
            resumed: true,
            older: older.filter(|_| !Mutant::HelloKeepsOlder.is_planted()),
        })
    }

    fn begin_session(&self, known: &mut Known, hello: &Hello, now: Millis) -> Result<Greeting> {
        let mut runs = self.runs.lock();
        runs.join(hello, now)?;
        let session = Arc::new(Session::new(hello, self.seed, now));
        let older = match hello.attempt {
            Some(attempt) => runs.begin(&session, attempt)?,
            None => None,
        };
        drop(runs);
        let before = known.presence.remove(&hello.session);
        let resumed = !matches!(
            before,
            Some(Presence::Ended { .. } | Presence::Silent { .. })
        );
        if let Some(Presence::Expected(expectation)) = before {
            session.set_places(known.take_places(expectation));
        }
        known.set(hello.session, Presence::Live(session.clone()));
        Ok(Greeting {
            session,
            resumed,
            older: older.filter(|_| !Mutant::HelloKeepsOlder.is_planted()),
        })
    }

    /// An object came here in which the session may hold something, or a call of it waits or has left a record; without an
    /// object, a record of a creation or deletion came. With the object comes its run, if it is not persistent.
    pub fn expect(&self, id: SessionId, object: (Option<ObjectId>, Option<RunId>), now: Millis) {
        let new = || Expectation::new(self.seed, now);
        let mut known = self.sessions.write();
        match known.presence.get_mut(&id) {
            Some(Presence::Live(session)) => {
                if let Some(object) = object.0 {
                    session.track(object, &|_| true);
                }
            }
            Some(Presence::Expected(expectation)) => expectation.add(object),
            Some(Presence::Ending { late }) => late.get_or_insert_with(new).add(object),
            // A session that has ended here has not ended where the object was.
            Some(Presence::Silent { .. } | Presence::Ended { .. }) | None => {
                let mut expectation = new();
                expectation.add(object);
                known.set(id, Presence::Expected(expectation));
            }
        }
    }

    /// A session that is expected will not come: its thread is fenced. Gives the objects that this concerns.
    pub fn end_expected(&self, id: SessionId) -> Option<Vec<ObjectId>> {
        let mut known = self.sessions.write();
        if !matches!(known.presence.get(&id), Some(Presence::Expected(_))) {
            return None;
        }
        match known.presence.insert(id, Presence::Ending { late: None }) {
            Some(Presence::Expected(expectation)) => Some(known.take_places(expectation).all()),
            _ => None,
        }
    }

    /// A call of an attempt waits in an object that came here, and its session need not have come. False: the attempt is
    /// fenced already.
    pub fn expect_attempt(&self, waiting: WaitingCall) -> bool {
        let mut known = self.sessions.write();
        if self.runs.lock().is_fenced(waiting.attempt) {
            return false;
        }
        let session = waiting.call.session;
        // The end of a session that has come is the end of its calls.
        if let Some(expectation) = known.expectation(session) {
            expectation.waiting.push(waiting);
            known.waiting.insert((waiting.attempt.thread, session));
        }
        true
    }

    /// The attempts of a thread before this one are fenced. Gives their calls that wait here, of sessions that have not come.
    pub fn take_waiting(&self, thread: ThreadId, before: u32) -> Vec<WaitingCall> {
        if self.sessions.read().waiting.is_empty() {
            return Vec::new();
        }
        let mut known = self.sessions.write();
        let sessions = (thread, SessionId(0))..=(thread, SessionId(u64::MAX));
        let sessions: Vec<_> = known.waiting.extract_if(sessions, |_| true).collect();
        let mut taken = Vec::new();
        for (thread, session) in sessions {
            let Some(expectation) = known.expectation(session) else {
                continue;
            };
            let is_fenced = |waiting: &mut WaitingCall| {
                waiting.attempt.thread == thread && waiting.attempt.number < before
            };
            taken.extend(expectation.waiting.extract_if(.., is_fenced));
            let mut left = expectation.waiting.iter();
            if left.any(|waiting| waiting.attempt.thread == thread) {
                known.waiting.insert((thread, session));
            }
        }
        taken
    }

    /// The expected sessions that did not say hello within a lease, with the objects that this concerns. An exactly-once
    /// thread may take longer, for as long as its run may live: its owner keeps a session at each server.
    pub fn absent(&self, now: Millis, lease_ms: Millis) -> Vec<(SessionId, Vec<ObjectId>)> {
        let known = self.sessions.read();
        let runs = self.runs.lock();
        let is_absent = |id: &SessionId, one: &Expectation| {
            let may_come = id.is_recorded() && runs.may_have_owner(*id, one.run);
            !may_come && now.saturating_sub(one.since_ms) > lease_ms
        };
        let mut ids: Vec<_> = known
            .presence
            .iter()
            .filter(
                |(id, presence)| matches!(presence, Presence::Expected(one) if is_absent(id, one)),
            )
            .map(|(id, _)| *id)
            .collect();
        drop(runs);
        drop(known);
        ids.sort_unstable();
        ids.into_iter()
            .filter_map(|id| Some((id, self.end_expected(id)?)))
            .collect()
    }

    /// Whether a run's owner has its session here.
    pub fn has_owner(&self, run: RunId) -> bool {
        self.runs.lock().has_owner(&run)
    }

    /// An object of a run is served here from now on.
    pub fn expect_owner(&self, run: RunId, now: Millis) {
        self.runs.lock().expect_owner(run, now);
    }

    /// An object of a run came here.
    pub fn note_run(&self, run: RunId, now: Millis) {
        self.runs.lock().note(run, now);
    }

    /// The runs that were without an owner for longer than a lease.
    pub fn orphans(
        &self,
        now: Millis,
        leases: (Millis, Millis),
        has_objects: &dyn Fn(&RunId) -> bool,
    ) -> Vec<RunId> {
        self.runs.lock().orphans(now, leases, has_objects)
    }

    /// Takes everybody to have been heard just now: this server was stopped, and could hear nobody.
    pub fn forgive(&self, now: Millis) {
        let mut known = self.sessions.write();
        for presence in known.presence.values_mut() {
            match presence {
                Presence::Live(session) => session.set_seen(now),
                Presence::Expected(expectation) => expectation.since_ms = now,
                _ => {}
            }
        }
        self.runs.lock().forgive(now);
    }

    /// Forgets everybody: this server has lost what it held. Gives the connections, which have to be closed.
    pub fn clear(&self) -> Vec<ConnectionId> {
        let mut known = self.sessions.write();
        // Whoever attaches a connection later closes it.
        let ended = known.all_live().filter_map(|session| session.end(false).1);
        let connections = ended.collect();
        known.presence.clear();
        known.waiting.clear();
        known.live = 0;
        self.runs.lock().clear();
        connections
    }

    /// All sessions that live here.
    pub fn live(&self) -> Vec<Arc<Session>> {
        let known = self.sessions.read();
        let mut live: Vec<_> = known.all_live().cloned().collect();
        live.sort_unstable_by_key(|session| session.id);
        live
    }

    /// The session runs this attempt from now on. Gives the session of an older attempt, which has to end.
    pub fn begin(&self, session: &Session, attempt: Attempt) -> Result<Option<SessionId>> {
        self.runs.lock().begin(session, attempt)
    }

    /// Older attempts of a thread may not go on. Gives what becomes of the session that runs one. `by`: who says so.
    pub fn fence(&self, by: &Session, fence: Fence) -> Result<Option<Fenced>> {
        self.runs.lock().fence(by, fence)
    }

    /// Ends a session; with `running`, only if that is what it still runs. The caller does what is left, and then calls
    /// [`on_ended`](Sessions::on_ended).
    pub fn end(
        &self,
        id: SessionId,
        running: Option<ThreadId>,
        (is_known, now): (bool, Millis),
    ) -> Option<Ended> {
        let mut known = self.sessions.write();
        let mut runs = self.runs.lock();
        let session = known.live(id)?.clone();
        if running.is_some() && session.thread() != running {
            return None;
        }
        known.set(id, Presence::Ending { late: None });
        let (objects, connection) = session.end(is_known);
        let mut ended = Ended {
            objects,
            connection,
            ..Ended::default()
        };
        if runs.leave(&session, is_known, now) {
            ended.run = Some(session.run);
            // Other sessions have leases of their own.
            let recorded = known
                .all_live()
                .filter(|other| other.recorded && other.run == session.run);
            ended.sessions = recorded.map(|session| session.id).collect();
            ended.sessions.sort_unstable();
        }
        Some(ended)
    }

    /// All that an ended session was concerned with has been told, but for what came here meanwhile: that is as if it
    /// came now.
    pub fn on_ended(&self, id: SessionId, is_known: bool, now: Millis) {
        let mut known = self.sessions.write();
        let late = match known.presence.get_mut(&id) {
            Some(Presence::Ending { late }) => late.take(),
            _ => None,
        };
        let presence = match (late, is_known) {
            (Some(late), _) => Presence::Expected(late),
            (None, true) => Presence::Ended { since_ms: now },
            (None, false) => Presence::Silent { since_ms: now },
        };
        known.set(id, presence);
    }

    /// Sessions that ended before this time are forgotten: none of them repeats a call any more.
    pub fn forget_ended(&self, before: Millis) {
        let mut known = self.sessions.write();
        known
            .presence
            .retain(|_, presence| !presence.ended_before(before));
    }

    /// The sessions that were silent for longer than a lease.
    pub fn lapsed(&self, now: Millis, lease_ms: Millis) -> Vec<SessionId> {
        let known = self.sessions.read();
        let mut lapsed: Vec<_> = known
            .all_live()
            .filter(|session| !session.recorded && session.silent_ms(now) > lease_ms)
            .map(|session| session.id)
            .collect();
        lapsed.sort_unstable();
        lapsed
    }

    #[cfg(test)]
    pub fn threads_len(&self, run: &RunId) -> usize {
        self.runs.lock().threads_len(run)
    }

    /// Asserts what must hold of sessions.
    pub fn check(&self) {
        let known = self.sessions.read();
        assert_eq!(
            known.live,
            known.all_live().count(),
            "the count of live sessions is wrong"
        );
        for session in known.all_live() {
            assert!(!session.has_ended(), "a session has ended and lives");
        }
        let expected = known
            .presence
            .values()
            .filter_map(|presence| match presence {
                Presence::Expected(expectation) => Some(expectation),
                Presence::Ending { late } => late.as_ref(),
                _ => None,
            });
        let waiting = expected.flat_map(|expectation| &expectation.waiting);
        let waiting = waiting.map(|waiting| (waiting.attempt.thread, waiting.call.session));
        assert_eq!(
            known.waiting,
            waiting.collect(),
            "the list of threads with waiting calls is wrong"
        );
    }
}
