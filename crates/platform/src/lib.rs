//! Platforms: run this payload somewhere, and give me the result. Bytes in, bytes out.
//!
//! - [`Platform`]: what all platforms do.
//! - [`LocalPlatform`]: worker processes of an executable on this machine, behind the AWS Lambda Runtime
//!   API, so that a worker is the same code here and on Lambda.
//! - [`InProcess`]: threads of this process, for tests and debuggers.
//! - [`worker`]: the other end: the loop of a worker.

use std::sync::Arc;
use std::time::Duration;

mod envelope;
mod in_process;
mod local;
pub mod worker;

pub use in_process::InProcess;
pub use local::{LocalConfig, LocalPlatform};

/// Largest payload and largest result, in bytes, before the envelope.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// One invocation of a worker.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The cloud thread's name; it stands before the lines that the thread prints.
    pub name: String,
    /// What the worker gets.
    pub payload: Vec<u8>,
    /// The worker's memory, in MB; `None`: the platform's default.
    pub memory_mb: Option<u32>,
    /// The worker's time; `None`: the platform's default.
    pub time_limit: Option<Duration>,
}

/// Called with the result of an invocation, exactly once, from any thread. It must not block.
pub type Completion = Box<dyn FnOnce(Result<Vec<u8>, Failure>) + Send>;

/// Runs invocations.
pub trait Platform: Send + Sync {
    /// Starts an invocation, and returns at once. Invocations over the platform's concurrency wait for
    /// their turn.
    fn invoke(&self, invocation: Invocation, done: Completion);

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
    /// The function reported an error.
    #[error("{error_type}: {message}")]
    Function {
        /// What kind of error.
        error_type: String,
        /// Its message.
        message: String,
        /// Where it happened, if that is known.
        location: Option<String>,
    },
    /// The worker's process died.
    #[error("the worker died: {reason}")]
    WorkerDied {
        /// The signal or the exit status.
        reason: String,
        /// The last lines that it printed.
        output: Vec<String>,
    },
    /// It took longer than its time limit, and was killed.
    #[error("not finished within {limit:?}")]
    TimeLimit {
        /// The limit.
        limit: Duration,
    },
    /// It needed more memory than its limit.
    #[error("more than {limit_mb} MB of memory needed")]
    MemoryLimit {
        /// The limit, in MB.
        limit_mb: u32,
    },
    /// No worker could be started.
    #[error("no worker can be started: {reason}")]
    Start {
        /// Why not.
        reason: String,
    },
    /// The payload is too large.
    #[error("a payload of {size} bytes, where {max} (PAYLOAD_BYTES_MAX) are allowed")]
    PayloadTooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// The result is too large.
    #[error(
        "a result of over {max} bytes (PAYLOAD_BYTES_MAX): put it in a shared object, and return its handle"
    )]
    ResultTooLarge {
        /// The limit.
        max: usize,
    },
    /// The platform is over its capacity; try again later.
    #[error("the platform is over its capacity: {reason}")]
    Throttled {
        /// The platform's words.
        reason: String,
    },
    /// The platform was shut down.
    #[error("the platform was shut down")]
    Shutdown,
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
