//! Platforms: a platform runs a payload somewhere and returns the result. Bytes in, bytes out.
//!
//! - [`Platform`]: the interface of all platforms.
//! - [`LocalPlatform`]: runs worker processes of an executable on this machine, behind the AWS Lambda Runtime
//!   API, so that the same worker code runs here and on Lambda.
//! - [`InProcess`]: runs payloads on threads of this process, for tests and debuggers.
//! - [`worker`]: the main loop of a worker.
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

mod envelope;
mod environment;
mod group;
mod in_process;
mod local;
mod nested;
mod platform;
mod queue_watch;
mod sink;
pub mod worker;

pub use in_process::InProcess;
pub use local::{LocalConfig, LocalPlatform};
pub use platform::{Completion, Failure, Invocation, InvocationId, PAYLOAD_BYTES_MAX, Platform};
pub use sink::{OutputSink, Prefixed, Stream};
