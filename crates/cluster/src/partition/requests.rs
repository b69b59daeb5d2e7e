//! Creations and deletions that were executed: what makes a repeated one harmless.

use std::collections::BTreeMap;

use crucial_core::CallId;
use crucial_object::{Sequence, SessionId};

use crate::Lifecycle;

/// Results, until their sessions have acknowledged them.
#[derive(Default)]
pub(super) struct Requests(BTreeMap<CallId, Lifecycle>);

impl Requests {
    pub fn find(&self, call: CallId) -> Option<bool> {
        self.0.get(&call).map(|done| done.result)
    }

    /// One was executed; its session has the results of those before `acked`.
    pub fn note(&mut self, done: Option<Lifecycle>) {
        let Some(done) = done else { return };
        let first = CallId {
            session: done.call.session,
            sequence: Sequence(0),
        };
        let unneeded: Vec<_> = self
            .0
            .range(first..done.call)
            .map(|(call, _)| *call)
            .take_while(|call| call.sequence < done.acked)
            .collect();
        for call in unneeded {
            self.0.remove(&call);
        }
        self.0.insert(done.call, done);
    }

    /// A session has ended.
    pub fn forget(&mut self, session: SessionId) {
        self.0.retain(|call, _| call.session != session);
    }

    pub fn all(&self) -> Vec<Lifecycle> {
        self.0.values().copied().collect()
    }

    /// These, and no others.
    pub fn replace(&mut self, all: Vec<Lifecycle>) {
        self.0 = all.into_iter().map(|done| (done.call, done)).collect();
    }
}
