//! The state of a session at this server.

use std::sync::Arc;

use crucial_object::{ObjectId, RunId};
use crucial_proto::frame::Attempt;

use super::client::{Places, Session};
use crate::cell::CallId;
use crate::hash::HashSeed;
use crate::ids::Millis;

/// The state of a session at this server. An unknown session may live at other servers.
pub(crate) enum Presence {
    /// The session lives here.
    Live(Arc<Session>),
    /// Objects came here from another server of which the session may hold something. It has a lease to say hello.
    Expected(Expectation),
    /// The session has ended, and its objects are not all told yet. None of the same id begins before that: its places
    /// would be taken for the old ones. Objects that come here meanwhile are `late`: nobody tells them.
    Ending { late: Option<Expectation> },
    /// The session has ended since it was silent. It may live, and turn up at another server; its results are needed for
    /// a while.
    Silent { since_ms: Millis },
    /// The session has ended: it said goodbye, or was fenced. One that comes again is told so, for a while.
    Ended { since_ms: Millis },
}

/// What a session that has not come yet leaves behind, if it does not come.
pub(crate) struct Expectation {
    pub since_ms: Millis,
    /// The objects that its end concerns.
    pub places: Places,
    /// Its run, if one of the objects belongs to that.
    pub run: Option<RunId>,
    /// Its calls that wait, of attempts of cloud threads.
    pub waiting: Vec<WaitingCall>,
}

/// A call that an attempt of a cloud thread has made, and that waits in an object which came here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitingCall {
    pub attempt: Attempt,
    pub call: CallId,
    pub object: ObjectId,
}

impl Expectation {
    pub fn new(seed: HashSeed, since_ms: Millis) -> Expectation {
        Expectation {
            since_ms,
            places: Places::new(seed),
            run: None,
            waiting: Vec::new(),
        }
    }

    /// An object came, of this run if it is not persistent.
    pub fn add(&mut self, (object, run): (Option<ObjectId>, Option<RunId>)) {
        if let Some(object) = object {
            self.places.track(object, &|_| true);
        }
        self.run = self.run.or(run);
    }
}

impl Presence {
    /// Whether the session ended before this time. Nobody repeats its calls any more.
    pub fn ended_before(&self, time: Millis) -> bool {
        match self {
            Presence::Silent { since_ms } | Presence::Ended { since_ms } => *since_ms < time,
            _ => false,
        }
    }

    /// Whether results of the session's calls may still be asked for, when it does not live here.
    pub fn keeps_results(&self) -> bool {
        matches!(self, Presence::Expected(_) | Presence::Silent { .. })
    }
}
