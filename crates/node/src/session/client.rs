//! One session: a client process, which outlives its connections by up to a lease.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use crucial_object::{Error, ObjectId, Result, RunId, Sequence, SessionId, ThreadId};
use crucial_proto::frame::{Attempt, Hello, InFlight};

use super::delivery::{Attached, Delivery};
use crate::hash::{HashSeed, Map, Set};
use crate::ids::{ConnectionId, Millis};
use crate::sync::{AtomicBool, AtomicU64, LockMutant, Mutex};

/// A session.
pub struct Session {
    pub(crate) id: SessionId,
    pub(crate) run: RunId,
    pub(crate) namespace: String,
    /// Whether it is an exactly-once thread's. Such a session outlives the thread's attempts, and ends when the thread is
    /// fenced or its run ends.
    pub(crate) recorded: bool,
    /// Calls that still come in the name of a session that has ended are not executed.
    ended: AtomicBool,
    /// The session ended as it was silent, and may live at other servers.
    was_silent: AtomicBool,
    /// The attempt of a cloud thread that it runs.
    attempt: Mutex<Option<Attempt>>,
    /// Its sequences below this are acknowledged: answered, and the result seen.
    acked: AtomicU64,
    /// The client's last list of what it waits for, where `acked` is held up.
    in_flight: Mutex<InFlight>,
    /// `in_flight.last`, to be seen without the lock: most sequences are above.
    listed: AtomicU64,
    /// The time of its last sign of life.
    seen_ms: AtomicU64,
    delivery: Mutex<Delivery>,
    /// Pings that wait for this server's lease, the oldest first.
    pings: Mutex<VecDeque<Sequence>>,
    /// `None`: the session has ended.
    places: Mutex<Option<Places>>,
}

/// Objects that a session's end concerns.
pub(crate) struct Places {
    /// Where its calls wait.
    parked: Map<Sequence, ObjectId>,
    /// Where it may hold something, or has records that nothing else drops.
    tracked: Set<ObjectId>,
    /// With this many, those that are gone are dropped.
    prune_at: usize,
}

/// How many pings of a session wait for a lease of the server.
const PINGS_WAITING_MAX: usize = 16;

/// Below this many places nobody looks for those that are gone.
const PRUNE_AT_MIN: usize = 64;

impl Places {
    pub fn new(seed: HashSeed) -> Places {
        Places {
            parked: seed.map(),
            tracked: seed.set(),
            prune_at: 0,
        }
    }

    /// The object is told of the session's end. `exists` knows which objects are here.
    pub fn track(&mut self, object: ObjectId, exists: &dyn Fn(&ObjectId) -> bool) {
        if self.tracked.len() > self.prune_at.max(PRUNE_AT_MIN) {
            self.tracked.retain(|object| exists(object));
            self.prune_at = 2 * self.tracked.len();
        }
        self.tracked.insert(object);
    }

    /// Each object once, in the order of their ids.
    pub fn all(self) -> Vec<ObjectId> {
        let mut all: Vec<_> = self.parked.into_values().chain(self.tracked).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Session {
    pub(crate) fn new(hello: &Hello, seed: HashSeed, now: Millis) -> Session {
        Session {
            id: hello.session,
            run: hello.run,
            namespace: hello.namespace.clone(),
            recorded: hello.attempt.is_some_and(|attempt| attempt.exactly_once),
            ended: AtomicBool::new(false),
            was_silent: AtomicBool::new(false),
            attempt: Mutex::new(hello.attempt),
            acked: AtomicU64::new(0),
            in_flight: Mutex::default(),
            listed: AtomicU64::new(0),
            seen_ms: AtomicU64::new(now),
            delivery: Mutex::default(),
            pings: Mutex::default(),
            places: Mutex::new(Some(Places::new(seed))),
        }
    }

    /// The session's id.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Whether the client can still wait for `sequence`.
    pub(crate) fn needs(&self, sequence: Sequence) -> bool {
        !self.has_ended()
            && sequence.0 >= self.acked.load(Ordering::Acquire)
            && (sequence.0 > self.listed.load(Ordering::Acquire)
                || self.in_flight.lock().needs(sequence))
    }

    /// Notes an acknowledgement. False: `sequence` itself was acknowledged before, so that this is a late repetition of
    /// a call that nobody waits for.
    pub(crate) fn acknowledge(&self, sequence: Sequence, acked: Sequence) -> bool {
        if self.acked.load(Ordering::Relaxed) < acked.0 {
            self.acked.fetch_max(acked.0, Ordering::AcqRel);
        }
        self.needs(sequence)
    }

    /// How many calls it has made up to `sequence`, behind the first one that it has not acknowledged.
    pub(crate) fn unacknowledged(&self, sequence: Sequence) -> u64 {
        let acked = self.acked.load(Ordering::Relaxed);
        let listed = self.listed.load(Ordering::Relaxed);
        sequence.0.saturating_sub(acked.max(listed))
    }

    /// The client lists exactly what it waits for.
    pub(crate) fn set_in_flight(&self, in_flight: InFlight) {
        let mut current = self.in_flight.lock();
        if in_flight.last > current.last {
            self.listed.store(in_flight.last.0, Ordering::Release);
            *current = in_flight;
        }
    }

    /// The client gave a sign of life.
    pub(crate) fn set_seen(&self, now: Millis) {
        self.seen_ms.store(now, Ordering::Relaxed);
    }

    pub(crate) fn silent_ms(&self, now: Millis) -> Millis {
        now.saturating_sub(self.seen_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// A hello came on a connection; gives the hello's number.
    pub(crate) fn greet(&self, connection: ConnectionId) -> u64 {
        self.delivery.lock().greet(connection)
    }

    /// Makes `connection` the one that replies go to. The welcome to the hello of this number, with routes of this version,
    /// is on its way.
    pub(crate) fn attach(&self, hello: u64, connection: ConnectionId, routes: u64) -> Attached {
        let mut delivery = self.delivery.lock();
        delivery.set_routes_sent(routes);
        if LockMutant::RoutesUnlocked.is_planted() {
            drop(delivery);
            delivery = self.delivery.lock();
        }
        delivery.attach(hello, connection)
    }

    /// A ping waits for a lease of this server. Gives the oldest one if too many wait.
    pub(crate) fn hold_ping(&self, sequence: Sequence) -> Option<Sequence> {
        let mut pings = self.pings.lock();
        pings.push_back(sequence);
        match pings.len() > PINGS_WAITING_MAX {
            true => pings.pop_front(),
            false => None,
        }
    }

    /// The pings that wait for a lease of this server.
    pub(crate) fn take_pings(&self) -> VecDeque<Sequence> {
        std::mem::take(&mut *self.pings.lock())
    }

    /// Where the reply to a call goes that has waited. `None`: the reply waits for a welcome, or there is no connection.
    pub(crate) fn take_reply(
        &self,
        sequence: Sequence,
        result: Result<&[u8], &Error>,
    ) -> Option<ConnectionId> {
        self.delivery.lock().take_reply(sequence, result)
    }

    /// The connection on which the client has to be sent the routes of this version. From then on it is taken to know them.
    pub(crate) fn must_send_routes(&self, version: u64) -> Option<ConnectionId> {
        self.delivery.lock().must_send_routes(version)
    }

    /// The attempt that is connected is over, and another one takes the session up. Gives the connection, which has to be
    /// closed.
    pub(crate) fn fence(&self) -> Option<ConnectionId> {
        self.delivery.lock().fence()
    }

    /// The connection is closed.
    pub(crate) fn detach(&self, connection: ConnectionId) {
        self.delivery.lock().detach(connection);
    }

    /// Whether a request that came on `connection` may be executed. The session of an exactly-once thread passes from
    /// attempt to attempt, and the older ones are fenced with their connections.
    pub(crate) fn accepts(&self, connection: ConnectionId) -> bool {
        !self.recorded || self.connection() == Some(connection)
    }

    pub(crate) fn connection(&self) -> Option<ConnectionId> {
        self.delivery.lock().connection()
    }

    /// A call of the session waits in an object. False if the session has ended.
    pub(crate) fn park(&self, sequence: Sequence, object: ObjectId) -> bool {
        match &mut *self.places.lock() {
            Some(places) => {
                places.parked.insert(sequence, object);
                true
            }
            None => false,
        }
    }

    /// Whether a call of the session waits.
    pub(crate) fn is_parked(&self, sequence: Sequence) -> bool {
        let places = self.places.lock();
        places
            .as_ref()
            .is_some_and(|places| places.parked.contains_key(&sequence))
    }

    /// A waiting call has its reply.
    pub(crate) fn unpark(&self, sequence: Sequence) {
        if let Some(places) = &mut *self.places.lock() {
            places.parked.remove(&sequence);
        }
    }

    /// Forgets the waiting calls of objects that `is_here` does not name: they wait at other servers now.
    pub(crate) fn keep_parked(&self, is_here: impl Fn(&ObjectId) -> bool) {
        if let Some(places) = &mut *self.places.lock() {
            places.parked.retain(|_, object| is_here(object));
        }
    }

    #[cfg(test)]
    pub(crate) fn parked_len(&self) -> usize {
        let places = self.places.lock();
        places.as_ref().map_or(0, |places| places.parked.len())
    }

    /// The object is told when the session ends. False if it has ended.
    pub(crate) fn track(&self, object: ObjectId, exists: &dyn Fn(&ObjectId) -> bool) -> bool {
        let mut places = self.places.lock();
        let Some(places) = &mut *places else {
            return false;
        };
        places.track(object, exists);
        true
    }

    /// Takes up places that were known before the session came.
    pub(crate) fn set_places(&self, places: Places) {
        *self.places.lock() = Some(places);
    }

    /// The thread that it runs.
    pub(crate) fn thread(&self) -> Option<ThreadId> {
        self.attempt().map(|attempt| attempt.thread)
    }

    /// The attempt of a thread that it runs.
    pub(crate) fn attempt(&self) -> Option<Attempt> {
        *self.attempt.lock()
    }

    /// Runs this attempt from now on; gives the thread that it ran.
    pub(crate) fn set_attempt(&self, attempt: Option<Attempt>) -> Option<ThreadId> {
        let previous = std::mem::replace(&mut *self.attempt.lock(), attempt);
        previous.map(|previous| previous.thread)
    }

    /// Whether it ended as it was silent: then its client may repeat calls at other servers.
    pub(crate) fn was_silent(&self) -> bool {
        self.was_silent.load(Ordering::Acquire)
    }

    /// Ends it; `is_known`: it said goodbye, or was fenced. Gives the objects that its end concerns, and its connection.
    pub(crate) fn end(&self, is_known: bool) -> (Vec<ObjectId>, Option<ConnectionId>) {
        self.was_silent.store(!is_known, Ordering::Release);
        self.ended.store(true, Ordering::Release);
        let places = self.places.lock().take();
        let delivery = std::mem::take(&mut *self.delivery.lock());
        let objects = places.map_or_else(Vec::new, Places::all);
        (objects, delivery.connection())
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.id.fmt(f)
    }
}
