//! Sessions and runs: who calls, and until when they are taken to live.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crucial_core::CallId;
use crucial_core::frame::{Hello, InFlight};
use crucial_object::{Error, ObjectId, Result, RunId, Sequence, SessionId};
use hashbrown::{HashMap, HashSet};
use parking_lot::{Mutex, RwLock};

use crate::connection::Connection;
use crate::slot::Slot;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// A client process. It outlives its connections, by up to a lease.
pub(crate) struct Session {
    pub id: SessionId,
    pub run: RunId,
    pub namespace: String,
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
    /// Where its calls wait. `None`: the session has ended.
    parked: Mutex<Option<Map<Sequence, Arc<Slot>>>>,
    /// Results of what it asked that is no call: creations and deletions, until they are acknowledged.
    /// Held while one is executed, so that a repetition waits for the first.
    lifecycle: Mutex<BTreeMap<Sequence, Result<bool>>>,
}

impl Session {
    fn new(hello: &Hello, now_ms: u64) -> Session {
        Session {
            id: hello.session,
            run: hello.run,
            namespace: hello.namespace.clone(),
            acked: AtomicU64::new(0),
            in_flight: Mutex::default(),
            spoken_of: AtomicU64::new(0),
            seen_ms: AtomicU64::new(now_ms),
            connection: Mutex::default(),
            parked: Mutex::new(Some(Map::default())),
            lifecycle: Mutex::default(),
        }
    }

    /// Whether the client can still wait for `sequence`.
    pub fn needs(&self, sequence: Sequence) -> bool {
        sequence.0 >= self.acked.load(Ordering::Acquire)
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
        let previous = self.connection.lock().replace(connection);
        if let Some(previous) = previous {
            previous.close();
        }
    }

    /// The connection is closed.
    pub fn detach(&self, connection: &Arc<Connection>) {
        let mut current = self.connection.lock();
        if current.as_ref().is_some_and(|c| Arc::ptr_eq(c, connection)) {
            *current = None;
        }
    }

    pub fn connection(&self) -> Option<Arc<Connection>> {
        self.connection.lock().clone()
    }

    /// Notes that a call of the session waits in `slot`. False if the session has ended.
    pub fn park(&self, sequence: Sequence, slot: &Arc<Slot>) -> bool {
        match &mut *self.parked.lock() {
            Some(parked) => {
                parked.insert(sequence, slot.clone());
                true
            }
            None => false,
        }
    }

    /// Whether a call of the session waits.
    pub fn is_parked(&self, sequence: Sequence) -> bool {
        let parked = self.parked.lock();
        parked
            .as_ref()
            .is_some_and(|parked| parked.contains_key(&sequence))
    }

    /// A waiting call has its reply.
    pub fn unpark(&self, sequence: Sequence) {
        if let Some(parked) = &mut *self.parked.lock() {
            parked.remove(&sequence);
        }
    }

    /// Runs a creation or deletion, or repeats its result. `None`: the client has its answer.
    pub fn once(
        &self,
        sequence: Sequence,
        run: impl FnOnce() -> Result<bool>,
    ) -> Option<Result<bool>> {
        let mut lifecycle = self.lifecycle.lock();
        if !self.needs(sequence) {
            return None;
        }
        if let Some(result) = lifecycle.get(&sequence) {
            return Some(result.clone());
        }
        lifecycle.retain(|sequence, _| self.needs(*sequence));
        let result = run();
        lifecycle.insert(sequence, result.clone());
        Some(result)
    }
}

/// An application run.
struct Run {
    owner: SessionId,
    objects: HashSet<ObjectId, foldhash::fast::RandomState>,
}

/// All sessions and runs of a server.
pub(crate) struct Sessions {
    sessions: RwLock<Map<SessionId, Arc<Session>>>,
    runs: Mutex<Map<RunId, Run>>,
}

/// What is left to do when a session has ended.
#[derive(Default)]
pub(crate) struct Ended {
    /// Objects in which its calls wait.
    pub parked: Vec<Arc<Slot>>,
    /// Objects of the run that ended with it.
    pub objects: Vec<ObjectId>,
}

impl Sessions {
    pub fn new() -> Sessions {
        Sessions {
            sessions: RwLock::default(),
            runs: Mutex::default(),
        }
    }

    pub fn len(&self) -> usize {
        self.sessions.read().len()
    }

    pub fn find(&self, id: SessionId) -> Option<Arc<Session>> {
        self.sessions.read().get(&id).cloned()
    }

    /// Whether the session of a call lives, and can still wait for it.
    pub fn needs(&self, call: CallId) -> bool {
        let sessions = self.sessions.read();
        sessions
            .get(&call.session)
            .is_some_and(|session| session.needs(call.sequence))
    }

    /// Starts a session, or takes one up again; whether it was there.
    pub fn hello(&self, hello: &Hello, now_ms: u64) -> Result<(Arc<Session>, bool)> {
        let mut sessions = self.sessions.write();
        if let Some(session) = sessions.get(&hello.session) {
            if !hello.resume || session.run != hello.run || session.namespace != hello.namespace {
                return Err(Error::Protocol {
                    detail: "this session id is in use: choose another".to_owned(),
                });
            }
            session.seen(now_ms);
            return Ok((session.clone(), true));
        }
        self.join(hello)?;
        let session = Arc::new(Session::new(hello, now_ms));
        sessions.insert(session.id, session.clone());
        Ok((session, false))
    }

    fn join(&self, hello: &Hello) -> Result<()> {
        let mut runs = self.runs.lock();
        match (runs.contains_key(&hello.run), hello.owner) {
            (false, true) => {
                runs.insert(
                    hello.run,
                    Run {
                        owner: hello.session,
                        objects: HashSet::default(),
                    },
                );
                Ok(())
            }
            (true, false) => Ok(()),
            (true, true) => Err(Error::Config {
                detail: format!("the run {} has an owner already", hello.run),
            }),
            (false, false) => Err(Error::Lost {
                object: format!("the application run {}", hello.run),
            }),
        }
    }

    /// Makes `object` part of `run`, so that it goes with it.
    pub fn adopt(&self, run: RunId, object: ObjectId) -> Result<()> {
        match self.runs.lock().get_mut(&run) {
            Some(run) => {
                run.objects.insert(object);
                Ok(())
            }
            None => Err(Error::SessionExpired),
        }
    }

    /// The object was deleted before its run ended.
    pub fn release(&self, run: RunId, object: ObjectId) {
        if let Some(run) = self.runs.lock().get_mut(&run) {
            run.objects.remove(&object);
        }
    }

    /// Ends a session, and with an owner its run. The caller does what is left.
    pub fn end(&self, id: SessionId) -> Ended {
        let mut sessions = self.sessions.write();
        let Some(session) = sessions.remove(&id) else {
            return Ended::default();
        };
        let parked = session.parked.lock().take().unwrap_or_default();
        if let Some(connection) = session.connection.lock().take() {
            connection.close();
        }
        let mut runs = self.runs.lock();
        let owned = runs.get(&session.run).is_some_and(|run| run.owner == id);
        let run = if owned {
            runs.remove(&session.run)
        } else {
            None
        };
        Ended {
            parked: parked.into_values().collect(),
            objects: run.map_or_else(Vec::new, |run| run.objects.into_iter().collect()),
        }
    }

    /// Closes the connections of all sessions.
    pub fn disconnect(&self) {
        for session in self.sessions.write().values() {
            if let Some(connection) = session.connection.lock().take() {
                connection.close();
            }
        }
    }

    /// The sessions that were silent for longer than `lease_ms`.
    pub fn lapsed(&self, now_ms: u64, lease_ms: u64) -> Vec<SessionId> {
        let sessions = self.sessions.read();
        sessions
            .values()
            .filter(|session| session.silent_ms(now_ms) > lease_ms)
            .map(|session| session.id)
            .collect()
    }
}
