//! Platforms: run this payload somewhere, and give me the result. Bytes in, bytes out.
//!
//! - [`Platform`]: what all platforms do.
//! - [`LocalPlatform`]: worker processes of an executable on this machine, behind the AWS Lambda Runtime
//!   API, so that a worker is the same code here and on Lambda.
//! - [`InProcess`]: threads of this process, for tests and debuggers.
//! - [`worker`]: the other end: the loop of a worker.
//!
//! ```
//! use std::sync::{Arc, mpsc};
//! use std::time::Duration;
//!
//! use crucial_platform::worker::{Context, FunctionError, Handler};
//! use crucial_platform::{InProcess, Invocation, InvocationId, Platform};
//!
//! struct Reverse;
//!
//! impl Handler for Reverse {
//!     fn run(&self, _: &Context, payload: &[u8]) -> Result<Vec<u8>, FunctionError> {
//!         Ok(payload.iter().rev().copied().collect())
//!     }
//! }
//!
//! let platform = InProcess::new(Arc::new(Reverse), 10, Duration::from_secs(60));
//! let (sender, result) = mpsc::channel();
//! let invocation = Invocation {
//!     id: InvocationId::next(),
//!     name: "example".to_owned(),
//!     payload: b"abc".to_vec(),
//!     memory_mb: None,
//!     time_limit: None,
//! };
//! platform.invoke(invocation, Box::new(move |result| sender.send(result).unwrap()));
//! assert_eq!(result.recv().unwrap().unwrap(), b"cba");
//! ```

#![warn(missing_docs)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

mod envelope;
mod environment;
mod in_process;
mod local;
pub mod worker;

pub use in_process::InProcess;
pub use local::{LocalConfig, LocalPlatform};

/// Largest payload and largest result, in bytes, before the envelope, where nothing else is configured.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// One invocation of a worker.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// To name it later.
    pub id: InvocationId,
    /// The cloud thread's name; it stands before the lines that the thread prints.
    pub name: String,
    /// What the worker gets.
    pub payload: Vec<u8>,
    /// The worker's memory, in MB; `None`: the platform's default.
    pub memory_mb: Option<u32>,
    /// The worker's time; `None`: the platform's default.
    pub time_limit: Option<Duration>,
}

/// Names an invocation within this process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct InvocationId(u64);

impl InvocationId {
    /// An id that no other invocation has.
    pub fn next() -> InvocationId {
        static LAST: AtomicU64 = AtomicU64::new(0);
        InvocationId(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

/// Called with the result of an invocation, exactly once, from any thread. It must not block: others'
/// results wait for it. A panic in it is reported to `tracing` and goes no further.
pub type Completion = Box<dyn FnOnce(Result<Vec<u8>, Failure>) + Send>;

/// Runs invocations.
pub trait Platform: Send + Sync {
    /// Starts an invocation, and returns at once. Invocations over the platform's concurrency wait for
    /// their turn.
    fn invoke(&self, invocation: Invocation, done: Completion);

    /// Ends an invocation, which fails with [`Failure::Cancelled`]; its worker is killed where that is
    /// possible. Nothing happens if it has completed. Returns at once.
    fn cancel(&self, id: InvocationId);

    /// Largest payload, in bytes. A larger one fails with [`Failure::PayloadTooLarge`].
    fn payload_bytes_max(&self) -> usize;

    /// Refuses new invocations, fails those that wait or run with [`Failure::Shutdown`], and ends the
    /// workers. Blocks until they are gone. A second call does nothing.
    fn shutdown(&self);
}

/// Why an invocation has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The function reported an error, a panic for example.
    #[error("{error_type}: {message}{}", at(location.as_deref()))]
    Function {
        /// What kind of error.
        error_type: String,
        /// Its message.
        message: String,
        /// Where it happened, if that is known.
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
    /// It took longer than its time limit, and was killed.
    #[error(
        "not finished within {limit:?}, its time limit: raise that, or give each invocation less to do"
    )]
    TimeLimit {
        /// The limit.
        limit: Duration,
    },
    /// It needed more memory than its limit.
    #[error("more than {limit_mb} MB of memory needed: raise the memory of the invocation")]
    #[non_exhaustive]
    MemoryLimit {
        /// The limit, in MB.
        limit_mb: u32,
    },
    /// No worker could be started.
    #[error("no worker can be started: {reason}")]
    Start {
        /// Why not, and what to do.
        reason: String,
    },
    /// The payload is too large. Nothing ran.
    #[error(
        "a payload of {size} bytes, where {max} (payload_bytes_max) are allowed: put the data in a shared object, and send its handle"
    )]
    PayloadTooLarge {
        /// Its size, in bytes.
        size: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The result is too large.
    #[error(
        "a result of over {max} bytes (payload_bytes_max): put it in a shared object, and return its handle"
    )]
    ResultTooLarge {
        /// The limit, in bytes.
        max: usize,
    },
    /// The platform is over its capacity. The same invocation may succeed later.
    #[error("the platform is over its capacity, try again later: {reason}")]
    Throttled {
        /// The platform's words.
        reason: String,
    },
    /// The platform was shut down.
    #[error("the platform was shut down")]
    Shutdown,
    /// It was [cancelled](Platform::cancel).
    #[error("it was cancelled")]
    Cancelled,
}

fn at(location: Option<&str>) -> String {
    location.map_or_else(String::new, |location| format!(", at {location}"))
}

fn printed(output: &[String]) -> String {
    match output {
        [] => ", and printed nothing".to_owned(),
        lines => format!("; it printed last:\n  {}", lines.join("\n  ")),
    }
}

/// Tells a result. A completion that panics must not take the caller's thread along, which serves others.
fn complete(done: Completion, result: Result<Vec<u8>, Failure>) {
    if catch_unwind(AssertUnwindSafe(|| done(result))).is_err() {
        tracing::error!("the completion of an invocation panicked");
    }
}

/// Which of its streams a worker printed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Where the lines go that workers print.
///
/// It is called on the platform's thread, which does nothing else meanwhile: a sink that blocks holds all
/// invocations up, and their time limits.
pub trait OutputSink: Send + Sync {
    /// `thread` printed `line` (without its end). All lines of an invocation come before its completion.
    fn line(&self, stream: Stream, thread: &str, line: &str);
}

/// The default sink: prints `[thread] line` on the same stream of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prefixed;

impl OutputSink for Prefixed {
    fn line(&self, stream: Stream, thread: &str, line: &str) {
        use std::io::Write;
        let text = format!("[{thread}] {line}\n");
        // A terminal that is gone is no reason to fail.
        let _ = match stream {
            Stream::Stdout => std::io::stdout().lock().write_all(text.as_bytes()),
            Stream::Stderr => std::io::stderr().lock().write_all(text.as_bytes()),
        };
    }
}

fn default_sink() -> Arc<dyn OutputSink> {
    Arc::new(Prefixed)
}
