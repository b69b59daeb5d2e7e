//! Requests of clients that know newer routes than this server. They wait, each session's for itself, until the server
//! knows as much: the client may know of a primary that this server still takes for another one.
//!
//! The requests of one session stay in order. So all that come from it while some wait, wait behind them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;

use crucial_object::{ObjectId, SessionId};

use crate::ids::Millis;
use crate::objects::{ObjectRequest, RequestContext};
use crate::replication::RoutesVersion;
use crate::sync::{AtomicUsize, Mutex};

/// For how long a request waits for the routes that its client claims to know, in milliseconds. Then the client is told
/// that nothing was done. (A view needs much less to get to all servers, and there may be no such routes.)
pub(crate) const EARLY_MAX_MS: Millis = 5_000;

/// A request for an object.
pub(crate) struct Addressed {
    pub object: ObjectId,
    pub context: RequestContext,
    pub request: ObjectRequest,
}

/// All requests that are too early.
#[derive(Default)]
pub(crate) struct EarlyRequests {
    lines: Mutex<BTreeMap<SessionId, Line>>,
    /// The number of lines, to be seen without the lock. There are hardly ever any.
    len: AtomicUsize,
}

/// The requests of one session.
#[derive(Default)]
struct Line {
    /// Each with the time at which it came.
    requests: VecDeque<(Millis, Addressed)>,
    /// A thread hands them out. Others leave theirs to it.
    is_leaving: bool,
}

/// The outcome of adding a request.
pub(crate) enum Added {
    /// The request is the only one of its session.
    First,
    Behind,
    /// Too many wait.
    Full(Box<Addressed>),
}

impl EarlyRequests {
    /// Whether requests of a session wait.
    pub fn has(&self, session: SessionId) -> bool {
        self.len.load(Ordering::Acquire) > 0 && self.lines.lock().contains_key(&session)
    }

    /// Lets a request wait.
    pub fn add(&self, request: Addressed, waiting_max: usize, now: Millis) -> Added {
        let mut lines = self.lines.lock();
        let line = lines.entry(request.context.session.id).or_default();
        if line.requests.len() >= waiting_max {
            return Added::Full(Box::new(request));
        }
        // As the client has numbered them: what was answered "moved" comes again behind later ones.
        let sequence = request.context.sequence;
        let later = |(_, other): &&(Millis, Addressed)| other.context.sequence > sequence;
        let later = line.requests.iter().rev().take_while(later).count();
        let place = line.requests.len() - later;
        line.requests.insert(place, (now, request));
        let is_first = line.requests.len() == 1;
        self.len.store(lines.len(), Ordering::Release);
        match is_first {
            true => Added::First,
            false => Added::Behind,
        }
    }

    /// The sessions of which requests wait, in rising order.
    pub fn sessions(&self) -> Vec<SessionId> {
        match self.len.load(Ordering::Acquire) {
            0 => Vec::new(),
            _ => self.lines.lock().keys().copied().collect(),
        }
    }

    /// Begins to hand out a session's requests; false if another thread does so.
    pub fn begin(&self, session: SessionId) -> bool {
        let mut lines = self.lines.lock();
        let line = lines.get_mut(&session).filter(|line| !line.is_leaving);
        line.is_some_and(|line| {
            line.is_leaving = true;
            true
        })
    }

    /// Takes out the next request of a session that `begin` was called for. `None` ends that: no request is left, or
    /// the next one waits on. `routes` is called behind whatever another thread has done before its own `begin`.
    pub fn next(
        &self,
        session: SessionId,
        routes: impl FnOnce() -> RoutesVersion,
    ) -> Option<Addressed> {
        let mut lines = self.lines.lock();
        let line = lines.get_mut(&session)?;
        let routes = routes();
        if let Some((_, next)) = line
            .requests
            .pop_front_if(|(_, next)| next.context.routes <= routes.0)
        {
            return Some(next);
        }
        line.is_leaving = false;
        if line.requests.is_empty() {
            lines.remove(&session);
            self.len.store(lines.len(), Ordering::Release);
        }
        None
    }

    /// Takes out all requests of a session, if the first one has waited for too long. Otherwise gives the time at which
    /// it will have.
    pub fn give_up(&self, session: SessionId, now: Millis) -> Result<Vec<Addressed>, Millis> {
        let mut lines = self.lines.lock();
        let Some(line) = lines.get(&session) else {
            return Ok(Vec::new());
        };
        let until = line.requests.iter().map(|(since, _)| since + EARLY_MAX_MS);
        let until = until.min().unwrap_or(now + EARLY_MAX_MS);
        if line.is_leaving || until > now {
            return Err(until.max(now + 1));
        }
        let line = lines.remove(&session).unwrap_or_default();
        self.len.store(lines.len(), Ordering::Release);
        Ok(line.requests.into_iter().map(|(_, one)| one).collect())
    }

    /// Forgets them all: the sessions are gone.
    pub fn clear(&self) {
        let mut lines = self.lines.lock();
        lines.clear();
        self.len.store(0, Ordering::Release);
    }
}
