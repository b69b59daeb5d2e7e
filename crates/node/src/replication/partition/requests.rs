//! Creations and deletions that were executed: what makes a repeated one harmless.

use std::collections::BTreeMap;

use crate::cell::CallId;
use crucial_object::{Sequence, SessionId};

use crate::replication::Lifecycle;

/// Results, until their sessions have acknowledged them.
#[derive(Default)]
pub(super) struct Requests {
    done: BTreeMap<CallId, Lifecycle>,
    /// The number of results at which to drop those that are not needed.
    purge_at: usize,
}

/// Below this many nobody looks for those that are not needed.
const PURGE_AT_MIN: usize = 64;

impl Requests {
    pub fn find(&self, call: CallId) -> Option<Option<bool>> {
        self.done.get(&call).map(|done| done.result)
    }

    /// One was executed; its session has the results of those before `acked`.
    pub fn record(&mut self, done: Option<Lifecycle>) {
        let Some(done) = done else { return };
        let first = CallId {
            session: done.call.session,
            sequence: Sequence(0),
        };
        let unneeded: Vec<_> = self
            .done
            .range(first..done.call)
            .map(|(call, _)| *call)
            .take_while(|call| call.sequence < done.acked)
            .collect();
        for call in unneeded {
            self.done.remove(&call);
        }
        self.done.insert(done.call, done);
    }

    /// These calls went with their object.
    pub fn add_tombstones(&mut self, calls: &[CallId]) {
        for call in calls {
            let done = Lifecycle {
                call: *call,
                acked: Sequence(0),
                result: None,
            };
            self.done.entry(*call).or_insert(done);
        }
    }

    /// Drops those that are not needed, if there are many; whether it did.
    pub fn purge(&mut self, needed: &dyn Fn(CallId) -> bool) -> bool {
        if self.done.len() <= self.purge_at.max(PURGE_AT_MIN) {
            return false;
        }
        self.done.retain(|call, _| needed(*call));
        self.purge_at = 2 * self.done.len();
        true
    }

    /// A session has ended; whether there was something of it.
    pub fn forget(&mut self, session: SessionId) -> bool {
        let before = self.done.len();
        self.done.retain(|call, _| call.session != session);
        self.done.len() < before
    }

    /// The sessions of which there is something, in rising order.
    pub fn sessions(&self) -> Vec<SessionId> {
        let mut sessions: Vec<_> = self.done.keys().map(|call| call.session).collect();
        sessions.dedup();
        sessions
    }

    pub fn all(&self) -> Vec<Lifecycle> {
        self.done.values().copied().collect()
    }

    /// These, and no others.
    pub fn replace(&mut self, all: Vec<Lifecycle>) {
        self.done = all.into_iter().map(|done| (done.call, done)).collect();
    }
}
