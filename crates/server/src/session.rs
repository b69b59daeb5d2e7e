//! Sessions and runs: who calls, and until when they are taken to live.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crucial_cluster::Home;
use crucial_core::CallId;
use crucial_core::frame::{Attempt, Fence, Hello, InFlight};
use crucial_object::{Error, ObjectId, Result, RunId, Sequence, SessionId, ThreadId};
use hashbrown::{HashMap, HashSet};
use parking_lot::{Mutex, RwLock};

use crate::connection::Connection;
use crate::slot::Slot;
use crate::table::{Slots, Table};

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
type Set<K> = HashSet<K, foldhash::fast::RandomState>;

/// A client process. It outlives its connections, by up to a lease.
pub(crate) struct Session {
    pub id: SessionId,
    pub run: RunId,
    pub namespace: String,
    /// It is an exactly-once thread's: it outlives the thread's attempts, and ends when the thread is
    /// fenced or its run ends.
    pub recorded: bool,
    /// It has ended: calls that still come in its name are not executed.
    ended: AtomicBool,
    /// The cloud thread that it runs.
    thread: Mutex<Option<ThreadId>>,
    /// Its sequences below this are acknowledged: answered, and the answer seen.
    acked: AtomicU64,
    /// The last word of the client on what it waits for, where `acked` is held up.
    in_flight: Mutex<InFlight>,
    /// `in_flight.last`, to be seen without the lock: most sequences are above.
    spoken_of: AtomicU64,
    /// When it last gave a sign of life, in milliseconds of the service's clock.
    seen_ms: AtomicU64,
    /// Its newest connection.
    connection: Mutex<Option<Arc<Connection>>>,
    /// `None`: the session has ended.
    places: Mutex<Option<Places>>,
    /// Results of what it asked that is no call: creations and deletions, until they are acknowledged.
    /// Held while one is executed, so that a repetition waits for the first.
    lifecycle: Mutex<BTreeMap<Sequence, Result<u64>>>,
}

/// Objects that a session's end concerns.
#[derive(Default)]
struct Places {
    /// Where its calls wait.
    parked: Map<Sequence, Arc<Slot>>,
    /// Where it may hold something, or has records that nobody else drops.
    attended: Map<ObjectId, Weak<Slot>>,
    /// With this many, those that are gone are dropped.
    prune_at: usize,
}

/// Below this many places nobody looks for those that are gone.
const PRUNE_AT_MIN: usize = 64;

impl Places {
    fn attend(&mut self, slot: &Arc<Slot>) {
        if self.attended.len() > self.prune_at.max(PRUNE_AT_MIN) {
            self.attended.retain(|_, slot| slot.strong_count() > 0);
            self.prune_at = 2 * self.attended.len();
        }
        // Another object may have been made under the same name.
        self.attended.insert(slot.id, Arc::downgrade(slot));
    }

    /// Each object once.
    fn all(self) -> Vec<Arc<Slot>> {
        let attended = self
            .attended
            .into_values()
            .filter_map(|slot| slot.upgrade());
        let mut all: Vec<_> = self.parked.into_values().chain(attended).collect();
        all.sort_unstable_by_key(|slot| slot.id);
        all.dedup_by(|one, other| Arc::ptr_eq(one, other));
        all
    }
}

impl Session {
    fn new(hello: &Hello, now_ms: u64) -> Session {
        Session {
            id: hello.session,
            run: hello.run,
            namespace: hello.namespace.clone(),
            recorded: hello.attempt.is_some_and(|attempt| attempt.exactly_once),
            ended: AtomicBool::new(false),
            thread: Mutex::new(hello.attempt.map(|attempt| attempt.thread)),
            acked: AtomicU64::new(0),
            in_flight: Mutex::default(),
            spoken_of: AtomicU64::new(0),
            seen_ms: AtomicU64::new(now_ms),
            connection: Mutex::default(),
            places: Mutex::new(Some(Places::default())),
            lifecycle: Mutex::default(),
        }
    }

    /// Whether the client can still wait for `sequence`.
    pub fn needs(&self, sequence: Sequence) -> bool {
        !self.ended.load(Ordering::Acquire)
            && sequence.0 >= self.acked.load(Ordering::Acquire)
            && (sequence.0 > self.spoken_of.load(Ordering::Acquire)
                || self.in_flight.lock().needs(sequence))
    }

    /// Takes note of an acknowledgement. False: `sequence` itself was acknowledged before, so that this
    /// is a late repetition of a call that nobody waits for.
    pub fn acknowledge(&self, sequence: Sequence, acked: Sequence) -> bool {
        self.acked.fetch_max(acked.0, Ordering::AcqRel);
        self.needs(sequence)
    }

    /// The client says exactly what it waits for.
    pub fn waits_for(&self, in_flight: InFlight) {
        let mut current = self.in_flight.lock();
        if in_flight.last > current.last {
            self.spoken_of.store(in_flight.last.0, Ordering::Release);
            *current = in_flight;
        }
    }

    pub fn seen(&self, now_ms: u64) {
        self.seen_ms.store(now_ms, Ordering::Relaxed);
    }

    pub fn silent_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.seen_ms.load(Ordering::Relaxed))
    }

    /// Makes `connection` the one that replies go to.
    pub fn attach(&self, connection: Arc<Connection>) {
        let previous = self.connection.lock().replace(connection.clone());
        if let Some(previous) = previous {
            previous.close();
        }
        // It ended behind the hello, and its end may not have seen this connection.
        if self.ended.load(Ordering::Acquire) {
            connection.close();
        }
    }

    /// The connection is closed.
    pub fn detach(&self, connection: &Arc<Connection>) {
        let mut current = self.connection.lock();
        if current.as_ref().is_some_and(|c| Arc::ptr_eq(c, connection)) {
            *current = None;
        }
    }

    /// Whether what comes on `connection` may be executed. The session of an exactly-once thread passes from
    /// attempt to attempt, and the older ones are fenced with their connections.
    pub fn accepts(&self, connection: &Arc<Connection>) -> bool {
        !self.recorded
            || self
                .connection
                .lock()
                .as_ref()
                .is_some_and(|current| Arc::ptr_eq(current, connection))
    }

    pub fn connection(&self) -> Option<Arc<Connection>> {
        self.connection.lock().clone()
    }

    /// Notes that a call of the session waits in `slot`. False if the session has ended.
    pub fn park(&self, sequence: Sequence, slot: &Arc<Slot>) -> bool {
        match &mut *self.places.lock() {
            Some(places) => {
                places.parked.insert(sequence, slot.clone());
                true
            }
            None => false,
        }
    }

    /// Whether a call of the session waits.
    pub fn is_parked(&self, sequence: Sequence) -> bool {
        let places = self.places.lock();
        places
            .as_ref()
            .is_some_and(|places| places.parked.contains_key(&sequence))
    }

    /// A waiting call has its reply.
    pub fn unpark(&self, sequence: Sequence) {
        if let Some(places) = &mut *self.places.lock() {
            places.parked.remove(&sequence);
        }
    }

    /// Notes that the object is to be told when the session ends. False if it has ended.
    pub fn attend(&self, slot: &Arc<Slot>) -> bool {
        let mut places = self.places.lock();
        let Some(places) = &mut *places else {
            return false;
        };
        places.attend(slot);
        true
    }

    /// Runs a creation or deletion, or repeats its result. `None`: the client has its answer.
    pub fn once(
        &self,
        sequence: Sequence,
        run: impl FnOnce() -> Result<u64>,
    ) -> Option<Result<u64>> {
        let mut lifecycle = self.lifecycle.lock();
        if !self.needs(sequence) {
            return None;
        }
        if let Some(result) = lifecycle.get(&sequence) {
            return Some(result.clone());
        }
        // An exactly-once thread's next attempt asks again, so nothing goes.
        if !self.recorded {
            lifecycle.retain(|sequence, _| self.needs(*sequence));
        }
        let result = run();
        lifecycle.insert(sequence, result.clone());
        Some(result)
    }
}

/// An application run.
#[derive(Default)]
struct Run {
    /// In a cluster objects of a run may come to a server before its owner says hello there.
    owner: Option<SessionId>,
    /// So many fences are to come before anybody else of the run is let in.
    fences: u32,
    /// Since when there is no owner, in milliseconds of the service's clock.
    orphan_ms: u64,
    objects: Slots,
    /// Cloud threads that run, and those of which an older attempt may still be somewhere.
    threads: Map<ThreadId, Thread>,
}

impl Run {
    /// In a cluster: whether its owner has said which attempts of its threads are over.
    fn is_introduced(&self) -> bool {
        self.owner.is_some() && self.fences == 0
    }
}

/// What is known of a cloud thread.
#[derive(Default)]
struct Thread {
    /// Its newest attempt.
    attempt: u32,
    /// Where that runs.
    session: Option<SessionId>,
    /// It is over, for all attempts.
    fenced: bool,
}

impl Thread {
    /// Whether an attempt may still turn up that must be refused.
    fn must_be_remembered(&self) -> bool {
        self.fenced || self.attempt > 1
    }
}

#[derive(Default)]
struct Known {
    live: Map<SessionId, Arc<Session>>,
    /// Those that have ended, and whose objects are not all told yet. Until they are none of the same id begins: its
    /// places would be taken for the old ones.
    departing: Set<SessionId>,
    /// In a cluster: those that may hold something of objects that came here from another server. They have a
    /// lease to say hello.
    expected: Map<SessionId, Expected>,
    /// In a cluster: the last that have ended here. One that comes again is told so; one that is unknown may have
    /// been at other servers so far.
    ended: VecDeque<SessionId>,
    /// In a cluster: those that have ended because they were silent, and when. They may live, and turn up at another
    /// server.
    silent: Map<SessionId, u64>,
}

/// A session that is to say hello.
struct Expected {
    since_ms: u64,
    places: Places,
}

/// So many sessions that have ended are remembered.
const ENDED_MAX: usize = 4096;

/// All sessions and runs of a server.
pub(crate) struct Sessions {
    /// It is one of several.
    shared: bool,
    sessions: RwLock<Known>,
    runs: Mutex<Map<RunId, Run>>,
    /// The persistent objects of each namespace.
    namespaces: Mutex<Map<String, Slots>>,
}

/// What is left to do when a session has ended.
#[derive(Default)]
pub(crate) struct Ended {
    /// Objects that are to be told.
    pub places: Vec<Arc<Slot>>,
    /// Objects of the run that ended with it.
    pub objects: Vec<ObjectId>,
    /// Sessions that end with the run.
    pub sessions: Vec<SessionId>,
}

impl Known {
    /// Remembers that a session has ended.
    fn end(&mut self, id: SessionId) {
        if self.ended.len() >= ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(id);
    }
}

impl Run {
    /// The session does not run the thread any more.
    fn leave(&mut self, thread: ThreadId, session: SessionId) {
        let Some(entry) = self.threads.get_mut(&thread) else {
            return;
        };
        if entry.session == Some(session) {
            entry.session = None;
            if !entry.must_be_remembered() {
                self.threads.remove(&thread);
            }
        }
    }
}

impl Sessions {
    pub fn new(shared: bool) -> Sessions {
        Sessions {
            shared,
            sessions: RwLock::default(),
            runs: Mutex::default(),
            namespaces: Mutex::default(),
        }
    }

    pub fn len(&self) -> usize {
        self.sessions.read().live.len()
    }

    pub fn find(&self, id: SessionId) -> Option<Arc<Session>> {
        self.sessions.read().live.get(&id).cloned()
    }

    /// Whether the session of a call lives, and can still wait for it.
    pub fn needs(&self, call: CallId) -> bool {
        let sessions = self.sessions.read();
        match sessions.live.get(&call.session) {
            Some(session) => session.needs(call.sequence),
            // When objects come here, the sessions that have records of them are expected, and end if they do not come.
            None => {
                sessions.expected.contains_key(&call.session)
                    || sessions.silent.contains_key(&call.session)
            }
        }
    }

    /// Starts a session, or takes one up again; whether it was there.
    pub fn hello(&self, hello: &Hello, now_ms: u64) -> Result<(Arc<Session>, bool)> {
        let mut sessions = self.sessions.write();
        if sessions.departing.contains(&hello.session) {
            return Err(Error::Unavailable {
                address: "the server".to_owned(),
                reason: "what the session held is being given back still".to_owned(),
            });
        }
        if let Some(session) = sessions.live.get(&hello.session) {
            let newer = hello.attempt.filter(|_| session.recorded);
            let same = session.run == hello.run && session.namespace == hello.namespace;
            if !same || !(hello.resume || newer.is_some() || self.shared) {
                return Err(Error::Protocol {
                    detail: "this session id is in use: choose another".to_owned(),
                });
            }
            if let Some(attempt) = newer {
                self.begin(session, attempt)?;
            }
            if hello.owner {
                self.join(hello)?;
            }
            session.seen(now_ms);
            return Ok((session.clone(), true));
        }
        self.join(hello)?;
        let session = Arc::new(Session::new(hello, now_ms));
        if let Some(attempt) = hello.attempt {
            self.begin(&session, attempt)?;
        }
        if let Some(expected) = sessions.expected.remove(&session.id) {
            *session.places.lock() = Some(expected.places);
        }
        let has_ended = sessions.ended.iter().position(|ended| *ended == session.id);
        let resumed = self.shared && has_ended.is_none();
        if let Some(place) = has_ended {
            sessions.ended.remove(place);
        }
        sessions.live.insert(session.id, session.clone());
        Ok((session, resumed))
    }

    fn join(&self, hello: &Hello) -> Result<()> {
        let mut runs = self.runs.lock();
        if hello.owner {
            let run = runs.entry(hello.run).or_default();
            if run.owner.is_some_and(|other| other != hello.session) {
                return Err(Error::Config {
                    detail: format!("the run {} has an owner already", hello.run),
                });
            }
            run.owner = Some(hello.session);
            run.fences = hello.fences;
            return Ok(());
        }
        match runs.get(&hello.run) {
            Some(run) if !self.shared || run.is_introduced() => Ok(()),
            None if !self.shared => Err(Error::Lost {
                object: format!("the application run {}", hello.run),
            }),
            _ => Err(Error::Unavailable {
                address: "the server".to_owned(),
                reason: format!(
                    "the owner of the application run {} has not introduced it here",
                    hello.run
                ),
            }),
        }
    }

    /// In a cluster: an object came here, of which this session may hold something, where a call of it waits or has left a
    /// record; or, without one, a record of a creation or deletion.
    pub fn expect(&self, id: SessionId, slot: Option<&Arc<Slot>>, now_ms: u64) {
        let mut sessions = self.sessions.write();
        if let Some(session) = sessions.live.get(&id) {
            if let Some(slot) = slot {
                session.attend(slot);
            }
            return;
        }
        // One that has ended here has not ended there.
        sessions.ended.retain(|ended| *ended != id);
        let expected = sessions.expected.entry(id).or_insert_with(|| Expected {
            since_ms: now_ms,
            places: Places::default(),
        });
        if let Some(slot) = slot {
            expected.places.attend(slot);
        }
    }

    /// In a cluster: a session has ended because it was silent. Its results are needed for a while.
    pub fn note_silent(&self, id: SessionId, now_ms: u64) {
        if self.shared {
            self.sessions.write().silent.insert(id, now_ms);
        }
    }

    /// Those that were silent before this will not turn up any more.
    pub fn forget_silent(&self, before_ms: u64) {
        let mut sessions = self.sessions.write();
        sessions.silent.retain(|_, ended_ms| *ended_ms >= before_ms);
    }

    /// In a cluster: a session that is expected will not come: its thread is fenced. What it concerns.
    pub fn end_expected(&self, id: SessionId) -> Option<Vec<Arc<Slot>>> {
        let mut sessions = self.sessions.write();
        let expected = sessions.expected.remove(&id)?;
        sessions.end(id);
        sessions.departing.insert(id);
        Some(expected.places.all())
    }

    /// In a cluster: an object of a run is served here from now on. If its owner does not say hello within a lease,
    /// the run has ended.
    pub fn expect_owner(&self, run: RunId, now_ms: u64) {
        let mut runs = self.runs.lock();
        let run = runs.entry(run).or_default();
        if run.owner.is_none() {
            run.orphan_ms = now_ms;
        }
    }

    /// The objects of runs that have been without an owner for longer than `lease_ms`.
    pub fn orphans(&self, now_ms: u64, lease_ms: u64) -> Vec<ObjectId> {
        let mut runs = self.runs.lock();
        let mut orphans = Vec::new();
        runs.retain(|_, run| {
            if run.owner.is_some() || now_ms.saturating_sub(run.orphan_ms) <= lease_ms {
                return true;
            }
            run.orphan_ms = now_ms;
            orphans.extend(run.objects.iter().map(|slot| slot.id));
            !run.objects.is_empty()
        });
        orphans
    }

    /// All sessions have been silent for so much less: this server was stopped meanwhile, and could hear nobody.
    pub fn forgive(&self, now_ms: u64) {
        let mut sessions = self.sessions.write();
        for session in sessions.live.values() {
            session.seen(now_ms);
        }
        for expected in sessions.expected.values_mut() {
            expected.since_ms = now_ms;
        }
        for run in self.runs.lock().values_mut() {
            run.orphan_ms = now_ms;
        }
    }

    #[cfg_attr(
        not(feature = "cluster"),
        allow(dead_code, reason = "a server that is alone has one life")
    )]
    /// Forgets everybody: this server has lost what it held.
    pub fn forget_all(&self) {
        let all = std::mem::take(&mut *self.sessions.write());
        for session in all.live.values() {
            // Whoever attaches a connection later closes it.
            session.ended.store(true, Ordering::Release);
            if let Some(connection) = session.connection.lock().take() {
                connection.close();
            }
        }
        self.runs.lock().clear();
        self.namespaces.lock().clear();
    }

    /// The connections of all sessions.
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        let sessions = self.sessions.read();
        let live = sessions.live.values();
        live.filter_map(|session| session.connection()).collect()
    }

    /// The session runs this attempt from here on; gives the session of an older one, which is to end.
    pub fn begin(&self, session: &Session, attempt: Attempt) -> Result<Option<SessionId>> {
        let mut runs = self.runs.lock();
        let run = runs.get_mut(&session.run).ok_or(Error::SessionExpired)?;
        let previous = session.thread.lock().replace(attempt.thread);
        if let Some(previous) = previous.filter(|previous| *previous != attempt.thread) {
            run.leave(previous, session.id);
        }
        let thread = run.threads.entry(attempt.thread).or_default();
        if thread.fenced || thread.attempt > attempt.number {
            return Err(Error::Fenced);
        }
        thread.attempt = attempt.number;
        let older = thread.session.replace(session.id);
        Ok(older.filter(|older| *older != session.id))
    }

    /// Older attempts of a thread may not go on; gives the session that is to end. `by`: who says so.
    pub fn fence(&self, by: &Session, fence: Fence) -> Result<Option<SessionId>> {
        let mut runs = self.runs.lock();
        let run = runs.get_mut(&by.run).ok_or(Error::SessionExpired)?;
        if run.owner == Some(by.id) {
            run.fences = run.fences.saturating_sub(1);
        }
        let thread = run.threads.entry(fence.thread).or_default();
        if fence.before == Fence::ALL {
            thread.fenced = true;
        } else if thread.attempt < fence.before {
            thread.attempt = fence.before;
        } else {
            return Ok(None);
        }
        Ok(thread.session.take())
    }

    /// An object of `run` was created: it goes with the run. Gives false if that has ended.
    pub fn adopt(&self, run: RunId, id: ObjectId, table: &Table) -> bool {
        let mut runs = self.runs.lock();
        let run = match runs.get_mut(&run) {
            Some(run) => run,
            None if self.shared => runs.entry(run).or_default(),
            None => return false,
        };
        run.objects.follow(id, table);
        true
    }

    /// A persistent object of a namespace was created.
    pub fn keep(&self, namespace: &str, id: ObjectId, table: &Table) {
        let mut namespaces = self.namespaces.lock();
        match namespaces.get_mut(namespace) {
            Some(objects) => objects.follow(id, table),
            None => {
                let objects = namespaces.entry(namespace.to_owned()).or_default();
                objects.follow(id, table);
            }
        }
    }

    /// In a cluster: an object is here.
    pub fn note_object(&self, home: &Home, slot: &Arc<Slot>, now_ms: u64) {
        let slot = slot.clone();
        match home {
            Home::Run(run) => {
                let mut runs = self.runs.lock();
                let new = || Run {
                    orphan_ms: now_ms,
                    ..Run::default()
                };
                runs.entry(*run).or_insert_with(new).objects.replace(slot);
            }
            Home::Namespace(name) => {
                let mut namespaces = self.namespaces.lock();
                match namespaces.get_mut(name) {
                    Some(objects) => drop(objects.replace(slot)),
                    None => {
                        let objects = namespaces.entry(name.clone()).or_default();
                        objects.replace(slot);
                    }
                }
            }
        }
    }

    /// In a cluster: an object is not here any more.
    pub fn forget_object(&self, home: &Home, id: ObjectId) {
        match home {
            Home::Run(run) => {
                if let Some(run) = self.runs.lock().get_mut(run) {
                    run.objects.remove(&id);
                }
            }
            Home::Namespace(name) => {
                let mut namespaces = self.namespaces.lock();
                if let Some(objects) = namespaces.get_mut(name) {
                    objects.remove(&id);
                    if objects.is_empty() {
                        namespaces.remove(name);
                    }
                }
            }
        }
    }

    /// The objects of a namespace.
    pub fn kept(&self, namespace: &str) -> Vec<ObjectId> {
        let namespaces = self.namespaces.lock();
        let objects = namespaces.get(namespace).into_iter();
        objects.flat_map(Slots::iter).map(|slot| slot.id).collect()
    }

    /// An object was deleted: it is part of no run and no namespace any more.
    pub fn release(&self, id: ObjectId, table: &Table) {
        // There are few of both, and an object is in one.
        let mut runs = self.runs.lock();
        let of_run = runs
            .values_mut()
            .find(|run| run.objects.find(&id).is_some());
        if let Some(run) = of_run {
            return run.objects.follow(id, table);
        }
        drop(runs);
        let mut namespaces = self.namespaces.lock();
        namespaces.retain(|_, objects| {
            if objects.find(&id).is_some() {
                objects.follow(id, table);
            }
            !objects.is_empty()
        });
    }

    /// Ends a session, and with an owner its run; with `running`, only if that is what it runs still. The
    /// caller does what is left, and says so by [`departed`](Sessions::departed).
    pub fn end(&self, id: SessionId, running: Option<ThreadId>) -> Option<Ended> {
        let mut sessions = self.sessions.write();
        let mut runs = self.runs.lock();
        let session = sessions.live.get(&id)?;
        if running.is_some() && *session.thread.lock() != running {
            return None;
        }
        let session = sessions.live.remove(&id)?;
        sessions.departing.insert(id);
        if self.shared {
            sessions.end(id);
        }
        session.ended.store(true, Ordering::Release);
        let places = session.places.lock().take().unwrap_or_default();
        if let Some(connection) = session.connection.lock().take() {
            connection.close();
        }
        let mut ended = Ended {
            places: places.all(),
            ..Ended::default()
        };
        match runs.get_mut(&session.run) {
            Some(run) if run.owner == Some(id) => {
                ended.objects = run.objects.iter().map(|slot| slot.id).collect();
                let recorded = sessions.live.values().filter(|other| {
                    // Others have leases of their own.
                    other.recorded && other.run == session.run
                });
                ended.sessions = recorded.map(|session| session.id).collect();
                if self.shared {
                    // The objects that other servers answer for end there.
                    run.owner = None;
                    run.threads.clear();
                } else {
                    runs.remove(&session.run);
                }
            }
            Some(run) => {
                if let Some(thread) = session.thread.lock().take() {
                    run.leave(thread, id);
                }
            }
            None => {}
        }
        Some(ended)
    }

    /// All that an ended session was concerned with has been told.
    pub fn departed(&self, id: SessionId) {
        self.sessions.write().departing.remove(&id);
    }

    /// Closes the connections of all sessions.
    pub fn disconnect(&self) {
        for session in self.sessions.write().live.values() {
            if let Some(connection) = session.connection.lock().take() {
                connection.close();
            }
        }
    }

    /// In a cluster: the sessions that have not said hello within `lease_ms`, with what concerns them.
    pub fn absent(&self, now_ms: u64, lease_ms: u64) -> Vec<(SessionId, Vec<Arc<Slot>>)> {
        let mut sessions = self.sessions.write();
        let lapsed = |expected: &Expected| now_ms.saturating_sub(expected.since_ms) > lease_ms;
        let expected = sessions.expected.iter();
        let ids: Vec<_> = expected
            .filter(|(id, expected)| !id.is_recorded() && lapsed(expected))
            .map(|(id, _)| *id)
            .collect();
        let mut absent = Vec::new();
        for id in ids {
            sessions.end(id);
            sessions.departing.insert(id);
            if let Some(expected) = sessions.expected.remove(&id) {
                absent.push((id, expected.places.all()));
            }
        }
        absent
    }

    /// The sessions that were silent for longer than `lease_ms`.
    pub fn lapsed(&self, now_ms: u64, lease_ms: u64) -> Vec<SessionId> {
        let sessions = self.sessions.read();
        sessions
            .live
            .values()
            .filter(|session| !session.recorded && session.silent_ms(now_ms) > lease_ms)
            .map(|session| session.id)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use crucial_core::Cell;
    use crucial_object::sync::AtomicI64;
    use crucial_object::{SharedType, encode, registry};

    use super::*;

    const RUN: RunId = RunId([7; 16]);

    fn hello(session: u64, owner: bool) -> Hello {
        Hello {
            session: SessionId(session),
            resume: false,
            run: RUN,
            owner,
            namespace: "default".to_owned(),
            attempt: None,
            routes: 0,
            fences: 0,
        }
    }

    fn fence(thread: u8, before: u32) -> Fence {
        Fence {
            thread: ThreadId([thread; 16]),
            before,
        }
    }

    fn attempt(thread: u8, number: u32) -> Attempt {
        Attempt {
            thread: ThreadId([thread; 16]),
            number,
            exactly_once: false,
        }
    }

    fn sessions() -> Sessions {
        let sessions = Sessions::new(false);
        sessions.hello(&hello(1, true), 0).unwrap();
        sessions
    }

    fn slot(id: u8) -> Arc<Slot> {
        let info = registry::find(AtomicI64::NAME).unwrap();
        let state = encode(&AtomicI64::new(0)).unwrap();
        Slot::new(ObjectId([id; 16]), Cell::new(info, &state).unwrap())
    }

    #[test]
    fn none_of_the_same_id_begins_before_the_old_one_has_gone() {
        let sessions = sessions();
        sessions.hello(&hello(2, false), 0).unwrap();
        assert!(sessions.end(SessionId(2), None).is_some());
        assert!(sessions.end(SessionId(2), None).is_none(), "it ends once");
        let mut again = hello(2, false);
        again.resume = true;
        let early = sessions.hello(&again, 0).map(drop);
        assert!(matches!(early, Err(Error::Unavailable { .. })));
        sessions.departed(SessionId(2));
        let (_, resumed) = sessions.hello(&again, 0).unwrap();
        assert!(!resumed);
    }

    #[test]
    fn in_a_cluster_nobody_is_let_in_before_the_owner_has_said_which_attempts_are_over() {
        let sessions = Sessions::new(true);
        let worker = |session, number| Hello {
            attempt: Some(attempt(1, number)),
            ..hello(session, false)
        };
        let refused = |worker: &Hello| sessions.hello(worker, 0).map(drop).unwrap_err();
        // Objects of the run may be here before.
        sessions.expect_owner(RUN, 0);
        assert!(matches!(refused(&worker(2, 1)), Error::Unavailable { .. }));
        let introduction = Hello {
            fences: 2,
            ..hello(1, true)
        };
        let (owner, _) = sessions.hello(&introduction, 0).unwrap();
        for told in [fence(1, 2), fence(9, Fence::ALL)] {
            assert!(matches!(refused(&worker(2, 1)), Error::Unavailable { .. }));
            assert_eq!(sessions.fence(&owner, told), Ok(None));
        }
        assert_eq!(refused(&worker(2, 1)), Error::Fenced);
        let (second, _) = sessions.hello(&worker(3, 2), 0).unwrap();
        // The owner connects again, and says it again: the present attempt goes on.
        sessions.hello(&introduction, 0).unwrap();
        assert_eq!(sessions.fence(&owner, fence(1, 2)), Ok(None));
        assert!(matches!(refused(&worker(4, 2)), Error::Unavailable { .. }));
        assert_eq!(sessions.fence(&owner, fence(9, Fence::ALL)), Ok(None));
        // Its third attempt is on its way.
        assert_eq!(sessions.fence(&owner, fence(1, 3)), Ok(Some(second.id)));
        assert_eq!(refused(&worker(4, 2)), Error::Fenced);
    }

    #[test]
    fn a_worker_that_has_begun_its_next_thread_is_not_ended_for_the_last() {
        let sessions = sessions();
        let (worker, _) = sessions.hello(&hello(2, false), 0).unwrap();
        assert_eq!(sessions.begin(&worker, attempt(1, 1)).unwrap(), None);
        let fenced = sessions.fence(&worker, fence(1, Fence::ALL)).unwrap();
        assert_eq!(fenced, Some(worker.id));
        // Between the fence and the end.
        sessions.begin(&worker, attempt(2, 1)).unwrap();
        assert!(sessions.end(worker.id, Some(ThreadId([1; 16]))).is_none());
        assert!(sessions.find(worker.id).is_some());
        assert!(sessions.end(worker.id, Some(ThreadId([2; 16]))).is_some());
    }

    #[test]
    fn an_object_is_registered_as_the_table_has_it_whoever_comes_last() {
        let (sessions, table) = (sessions(), Table::new());
        let (old, new) = (slot(3), slot(3));
        let kept = |sessions: &Sessions| sessions.kept("default");
        // Created and deleted; the deletion overtakes.
        table.insert(old.clone());
        table.remove(&old.id);
        sessions.release(old.id, &table);
        sessions.keep("default", old.id, &table);
        assert_eq!(kept(&sessions), []);
        // Deleted and made anew; the creation overtakes.
        table.insert(old.clone());
        sessions.keep("default", old.id, &table);
        table.remove(&old.id);
        table.insert(new.clone());
        sessions.keep("default", new.id, &table);
        sessions.release(old.id, &table);
        assert_eq!(kept(&sessions), [new.id]);
        table.remove(&new.id);
        sessions.release(new.id, &table);
        assert_eq!(kept(&sessions), []);
        assert!(sessions.adopt(RUN, old.id, &table));
        assert!(!sessions.adopt(RunId([8; 16]), old.id, &table));
    }
}
