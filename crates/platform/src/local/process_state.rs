//! The pool's record of a worker process: its present state, and why it ended.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::Instant;

use rustix::process::{Pid, Signal};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::outcomes::Outcomes;
use super::output::Output;
use super::process;
use crate::platform::{Completion, Failure, InvocationId};

/// An event of the Runtime API: an invocation that a worker receives.
pub(super) struct Event {
    pub request_id: String,
    pub deadline_ms: u128,
    pub document: Vec<u8>,
}

pub(super) struct WorkerProcess {
    /// The secret in the worker's API address, which authenticates its requests.
    pub token: String,
    pub pid: Pid,
    pub memory_mb: Option<u32>,
    pub output: Rc<Output>,
    /// Of the invocations that the worker has posted.
    pub outcomes: Outcomes,
    pub state: ProcessState,
    /// Why the platform killed the process, or why the process will end by itself.
    pub reason: Option<Failure>,
}

pub(super) enum ProcessState {
    /// Before the worker's first request for an event.
    Starting,
    /// The worker waits for an event.
    Idle {
        since: Instant,
        sender: oneshot::Sender<Event>,
    },
    Busy {
        id: InvocationId,
        name: String,
        request_id: String,
        done: Completion,
        limit: AbortHandle,
    },
    /// Between a result and the next request for an event.
    Returning { since: Instant },
    /// Killed while it ran no invocation, and not reaped yet.
    Ending,
}

impl WorkerProcess {
    pub fn runs(&self, request: &str) -> bool {
        matches!(&self.state, ProcessState::Busy { request_id, .. } if request_id == request)
    }

    /// Whether the worker is expected to request an event soon.
    pub fn will_request_event(&self) -> bool {
        self.reason.is_none()
            && matches!(
                self.state,
                ProcessState::Starting | ProcessState::Returning { .. }
            )
    }

    /// Kills the process. Only the first reason is kept.
    pub fn kill(&mut self, reason: Failure) {
        self.reason.get_or_insert(reason);
        process::kill(self.pid);
    }

    /// Kills a process that runs no invocation, and prevents further assignments to it.
    pub fn end(&mut self) {
        self.state = ProcessState::Ending;
        process::kill(self.pid);
    }

    /// The failure that explains why the process ended.
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
            Some(limit_mb) if self.ran_out_of_memory(status) => Failure::MemoryLimit { limit_mb },
            _ => Failure::WorkerDied {
                reason: process::describe(status),
                output: self.output.last_lines(),
            },
        }
    }

    /// Whether the process aborted as Rust does after a failed allocation.
    fn ran_out_of_memory(&self, status: ExitStatus) -> bool {
        status.signal() == Some(Signal::ABORT.as_raw()) && self.output.is_out_of_memory()
    }
}
