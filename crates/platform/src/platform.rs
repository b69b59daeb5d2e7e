//! The interface of all platforms.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Largest payload and largest result, in bytes, before the envelope, where nothing else is configured. In an envelope
/// as large as this it is within AWS Lambda's 6 291 556 bytes.
pub const PAYLOAD_BYTES_MAX: usize = 4 << 20;

/// One invocation of a worker.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Identifies the invocation, for example to [cancel](Platform::cancel) it.
    pub id: InvocationId,
    /// The cloud thread's name, the prefix of the lines that the thread prints.
    pub name: String,
    /// The bytes that the worker's [`Handler`](crate::worker::Handler) receives.
    pub payload: Vec<u8>,
    /// The worker's memory limit, in MB; `None`: the platform's default.
    pub memory_mb: Option<u32>,
    /// The invocation's time limit; `None`: the platform's default.
    pub time_limit: Option<Duration>,
}

/// Identifies an invocation within this process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct InvocationId(u64);

impl InvocationId {
    /// Returns an id that no other invocation of this process has.
    pub fn next() -> InvocationId {
        static LAST: AtomicU64 = AtomicU64::new(0);
        InvocationId(LAST.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn number(self) -> u64 {
        self.0
    }

    /// The id with this number, which `next` has given.
    pub(crate) fn numbered(number: u64) -> InvocationId {
        InvocationId(number)
    }
}

/// Called with the result of an invocation, exactly once, from any thread. The function must not block, since
/// other results wait behind it. A panic in the function is reported to `tracing` and caught.
pub type Completion = Box<dyn FnOnce(Result<Vec<u8>, Failure>) + Send>;

/// Runs invocations.
pub trait Platform: Send + Sync {
    /// Starts an invocation, and returns at once. Invocations over the platform's concurrency wait for
    /// their turn.
    fn invoke(&self, invocation: Invocation, done: Completion);

    /// Ends an invocation, which fails with [`Failure::Cancelled`]; its worker is killed where that is
    /// possible. A completed invocation is not affected. Returns at once.
    fn cancel(&self, id: InvocationId);

    /// Largest payload, in bytes. A larger payload fails with [`Failure::PayloadTooLarge`].
    fn payload_bytes_max(&self) -> usize;

    /// Refuses new invocations, fails all waiting and running ones with [`Failure::Shutdown`], and ends the
    /// workers. Blocks until the workers have ended. A second call does nothing.
    fn shutdown(&self);
}

/// Why an invocation has no result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The function reported an error, a panic for example.
    #[error("{error_type}: {message}{}", at(location.as_deref()))]
    Function {
        /// The kind of error.
        error_type: String,
        /// The error's message.
        message: String,
        /// Where the error happened, if that is known.
        location: Option<String>,
    },
    /// The worker's process died.
    #[error("the worker died: {reason}{}", printed(output))]
    WorkerDied {
        /// The signal or the exit status: `signal 9 (SIGKILL)`, `exit status 3`.
        reason: String,
        /// The last lines that the invocation printed, at most 10.
        output: Vec<String>,
    },
    /// The invocation took longer than its time limit, and was killed.
    #[error(
        "the invocation did not finish within its time limit of {limit:?}: raise the limit, or give each \
         invocation less work"
    )]
    TimeLimit {
        /// The limit.
        limit: Duration,
    },
    /// The invocation needed more memory than its limit.
    #[error("the invocation needed more than its {limit_mb} MB of memory: raise its memory limit")]
    #[non_exhaustive]
    MemoryLimit {
        /// The limit, in MB.
        limit_mb: u32,
    },
    /// No worker could be started.
    #[error("cannot start a worker: {reason}")]
    Start {
        /// The cause, and how to fix it.
        reason: String,
    },
    /// The payload is too large. Nothing ran.
    #[error(
        "the payload has {size} bytes, the limit is {max} (payload_bytes_max): put the data in a shared object \
         and send its handle"
    )]
    PayloadTooLarge {
        /// The payload's size, in bytes.
        size: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The result is too large.
    #[error(
        "the result has more than {max} bytes (payload_bytes_max): put it in a shared object and return its handle"
    )]
    ResultTooLarge {
        /// The limit, in bytes.
        max: usize,
    },
    /// The platform is at its capacity. The same invocation may succeed later.
    #[error("the platform is at its capacity, try again later: {reason}")]
    Throttled {
        /// The platform's explanation.
        reason: String,
    },
    /// The platform was shut down.
    #[error("the platform was shut down")]
    Shutdown,
    /// The invocation was [cancelled](Platform::cancel).
    #[error("the invocation was cancelled")]
    Cancelled,
}

fn at(location: Option<&str>) -> String {
    location.map_or_else(String::new, |location| format!(", at {location}"))
}

fn printed(output: &[String]) -> String {
    match output {
        [] => "; it printed nothing".to_owned(),
        lines => format!("; its last lines of output:\n  {}", lines.join("\n  ")),
    }
}

/// Calls a completion. A panic in it is caught, since the calling thread serves other invocations as well.
pub(crate) fn complete(done: Completion, result: Result<Vec<u8>, Failure>) {
    if catch_unwind(AssertUnwindSafe(|| done(result))).is_err() {
        tracing::error!("the completion of an invocation panicked");
    }
}
