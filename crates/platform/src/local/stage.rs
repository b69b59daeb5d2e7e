//! A worker as the pool sees it: what it does at present, and why it ended.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::Instant;

use rustix::process::{Pid, Signal};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::output::Output;
use super::process;
use crate::{Completion, Failure, InvocationId};

/// An event for a worker.
pub(super) struct Work {
    pub request_id: String,
    pub deadline_ms: u128,
    pub event: Vec<u8>,
}

pub(super) struct Worker {
    /// What tells its requests from those of others.
    pub token: String,
    pub pid: Pid,
    pub memory_mb: Option<u32>,
    pub output: Rc<Output>,
    pub stage: Stage,
    /// Why the platform killed it, or why it will end by itself.
    pub reason: Option<Failure>,
}

pub(super) enum Stage {
    /// It has not asked for work yet.
    Starting,
    /// It waits for work.
    Idle {
        since: Instant,
        give: oneshot::Sender<Work>,
    },
    Busy {
        id: InvocationId,
        request_id: String,
        done: Completion,
        limit: AbortHandle,
    },
    /// Between a result and the next request for work.
    Resting { since: Instant },
    /// It was killed when it had no work, and is not reaped yet.
    Ending,
}

impl Worker {
    pub fn runs(&self, request: &str) -> bool {
        matches!(&self.stage, Stage::Busy { request_id, .. } if request_id == request)
    }

    /// Whether it will ask for work by itself.
    pub fn is_coming(&self) -> bool {
        self.reason.is_none() && matches!(self.stage, Stage::Starting | Stage::Resting { .. })
    }

    /// Kills it, for the first reason that is given.
    pub fn kill(&mut self, reason: Failure) {
        self.reason.get_or_insert(reason);
        process::kill(self.pid);
    }

    /// Kills it when it has no work, so that it gets none any more.
    pub fn end(&mut self) {
        self.stage = Stage::Ending;
        process::kill(self.pid);
    }

    /// Why its process ended.
    pub fn failure(&self, status: io::Result<ExitStatus>) -> Failure {
        if let Some(reason) = &self.reason {
            return reason.clone();
        }
        let status = match status {
            Ok(status) => status,
            Err(error) => {
                return Failure::WorkerDied {
                    reason: error.to_string(),
                    output: self.output.last_lines(),
                };
            }
        };
        match self.memory_mb {
            Some(limit_mb) if self.was_starved(status) => Failure::MemoryLimit { limit_mb },
            _ => Failure::WorkerDied {
                reason: process::describe(status),
                output: self.output.last_lines(),
            },
        }
    }

    /// Whether it aborted as Rust does when an allocation is refused.
    fn was_starved(&self, status: ExitStatus) -> bool {
        status.signal() == Some(Signal::ABORT.as_raw()) && self.output.is_starved()
    }
}
