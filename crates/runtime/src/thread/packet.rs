//! The outcome of a cloud thread, on its way to whoever joins the thread.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

use crucial_object::{Error, Result};

use crate::task::Results;

/// The place where a thread leaves its results.
#[derive(Clone, Default)]
pub(crate) struct Packet(Arc<Shared>);

#[derive(Default)]
struct Shared {
    outcome: Mutex<Outcome>,
    changed: Condvar,
}

#[derive(Default)]
struct Outcome {
    result: Option<Result<Results>>,
    finished: bool,
}

impl Packet {
    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.0.outcome.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Records that the thread has ended. Only the first outcome counts.
    pub fn fill(&self, result: Result<Results>) {
        let mut outcome = self.outcome();
        if outcome.finished {
            return;
        }
        outcome.result = Some(result);
        outcome.finished = true;
        drop(outcome);
        self.0.changed.notify_all();
    }

    pub fn is_finished(&self) -> bool {
        self.outcome().finished
    }

    /// Blocks until the thread has ended, but not longer than until `deadline`, and returns whether the thread has ended.
    pub fn wait(&self, deadline: Option<Instant>) -> bool {
        let mut outcome = self.outcome();
        while !outcome.finished {
            outcome = match deadline {
                None => self
                    .0
                    .changed
                    .wait(outcome)
                    .unwrap_or_else(|e| e.into_inner()),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    let waited = self.0.changed.wait_timeout(outcome, left);
                    waited.unwrap_or_else(|e| e.into_inner()).0
                }
            };
        }
        true
    }

    /// The error of a thread that failed and was not joined.
    pub fn error(&self) -> Option<Error> {
        match &self.outcome().result {
            Some(Err(error)) => Some(error.clone()),
            _ => None,
        }
    }

    /// Blocks until the thread has ended, and takes its results.
    pub fn take(&self) -> Result<Results> {
        self.wait(None);
        self.outcome()
            .result
            .take()
            .unwrap_or(Err(Error::Cancelled))
    }
}
