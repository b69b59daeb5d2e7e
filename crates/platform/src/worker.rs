//! A worker: takes events from the Lambda Runtime API, one after the other, and posts their results.
//!
//! The same code runs behind [`LocalPlatform`](crate::LocalPlatform) and, as a custom runtime, on AWS.
//! A program that can be a worker begins with:
//!
//! ```no_run
//! # use crucial_platform::worker::{self, Context, FunctionError, Handler};
//! # struct Echo;
//! # impl Handler for Echo {
//! #     fn run(&self, _: &Context, payload: &[u8]) -> Result<Vec<u8>, FunctionError> {
//! #         Ok(payload.to_vec())
//! #     }
//! # }
//! if worker::is_worker() {
//!     worker::run(&Echo);
//! }
//! ```

use std::any::Any;
use std::ffi::CString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use rustix::process::{Resource, Rlimit};
use serde::Serialize;
use ureq::Agent;
use ureq::http::Response;

use crate::platform::PAYLOAD_BYTES_MAX;
use crate::{envelope, environment, group, nested};

/// Set to 1 by the local platform, so that the worker limits its own memory and ends with its parent.
pub(crate) const LOCAL_VARIABLE: &str = "CRUCIAL_LOCAL_WORKER";
/// The process id of the local platform.
pub(crate) const PARENT_VARIABLE: &str = "CRUCIAL_LOCAL_PLATFORM";
/// The platform's largest result, in bytes.
pub(crate) const RESULT_VARIABLE: &str = "CRUCIAL_PAYLOAD_BYTES_MAX";
pub(crate) const API_VARIABLE: &str = "AWS_LAMBDA_RUNTIME_API";
pub(crate) const MEMORY_VARIABLE: &str = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE";

/// The version of the Runtime API.
pub(crate) const API_VERSION: &str = "2018-06-01";

/// Runs payloads.
pub trait Handler: Send + Sync {
    /// Runs one payload. A panic counts as an error, but a handler that catches the panic itself can report its
    /// location.
    fn run(&self, context: &Context, payload: &[u8]) -> Result<Vec<u8>, FunctionError>;
}

/// The platform's description of an invocation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Context {
    /// The platform's id of the invocation.
    pub request_id: String,
    /// When the platform will end the invocation.
    pub deadline: Option<SystemTime>,
}

/// Why a function has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionError {
    /// The kind of error.
    pub error_type: String,
    /// The error's message.
    pub message: String,
    /// Where the error happened.
    pub location: Option<String>,
}

impl FunctionError {
    /// The error for an event that is not a valid envelope.
    pub(crate) fn envelope(message: String) -> FunctionError {
        FunctionError {
            error_type: "Envelope".to_owned(),
            message,
            location: None,
        }
    }

    /// The error for a panic that the handler did not catch.
    pub(crate) fn panic(payload: &(dyn Any + Send)) -> FunctionError {
        let message = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "(no message)".to_owned());
        FunctionError {
            error_type: "Panicked".to_owned(),
            message,
            location: None,
        }
    }
}

pub use crate::nested::platform;

/// Whether this process has begun to be a worker.
static IS_RUNNING: AtomicBool = AtomicBool::new(false);

/// Whether a platform started this process as a worker.
pub fn is_worker() -> bool {
    let is_named = || std::env::var_os(API_VARIABLE).is_some_and(|api| !api.is_empty());
    IS_RUNNING.load(Ordering::Relaxed) || is_named()
}

/// Runs a worker on the calling thread until its platform ends the process.
///
/// The platform's variables are removed from the environment, so that programs started by the worker do not become
/// workers themselves. Removal needs a process without other threads: call this function first in `main`.
/// Otherwise the variables stay, and a warning is logged.
///
/// The process gets a process group of its own. What a payload's handler starts ends with the payload, unless it leads a
/// process group of its own.
///
/// # Panics
///
/// If this process is not a worker: see [`is_worker`].
pub fn run(handler: &dyn Handler) -> ! {
    let api = std::env::var(API_VARIABLE).expect("a worker has AWS_LAMBDA_RUNTIME_API");
    let is_local = std::env::var_os(LOCAL_VARIABLE).is_some_and(|value| value == "1");
    IS_RUNNING.store(true, Ordering::Relaxed);
    group::lead();
    take_name();
    if is_local {
        group::end_with_parent(variable(PARENT_VARIABLE));
        limit_memory();
    }
    let result_bytes_max = variable(RESULT_VARIABLE).unwrap_or(PAYLOAD_BYTES_MAX);
    let platform_variables = [
        API_VARIABLE,
        LOCAL_VARIABLE,
        PARENT_VARIABLE,
        RESULT_VARIABLE,
    ];
    if !environment::remove_variables(&platform_variables) {
        tracing::warn!(
            "the worker's loop was not started first in main: programs that this worker starts inherit the \
             platform's variables and may behave as workers"
        );
    }
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(None)
        // The Runtime API is on this machine, so that a proxy named in the environment must not be used.
        .proxy(None)
        .user_agent("crucial")
        .build()
        .into();
    let base = format!("http://{api}/{API_VERSION}");
    if is_local {
        nested::remember(agent.clone(), &base, result_bytes_max);
    }
    let client = RuntimeClient {
        base: format!("{base}/runtime/invocation"),
        result_bytes_max,
        agent,
    };
    let mut has_run = false;
    loop {
        match client.run_next(handler) {
            Ok(()) => has_run = true,
            // The platform has ended or is shutting down.
            Err(error) if has_run || matches!(error, ureq::Error::StatusCode(_)) => {
                tracing::debug!(%error, "the Runtime API does not respond");
                std::process::exit(0);
            }
            Err(error) => {
                eprintln!(
                    "crucial: this worker cannot reach its platform ({API_VARIABLE}={api}): {error}"
                );
                std::process::exit(1);
            }
        }
    }
}

fn variable<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// Gives this process the name of its program, as `ps` and `top` print it: it was started by another path.
fn take_name() {
    let program = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or_default();
    // The system cuts a long one.
    if let Ok(name) = CString::new(name.as_bytes()) {
        let _ = rustix::thread::set_name(&name);
    }
}

/// Makes allocations beyond the memory limit fail, so that this process aborts with a message.
fn limit_memory() {
    if let Some(memory_mb) = variable::<u64>(MEMORY_VARIABLE) {
        let limit = Some(memory_mb << 20);
        let limit = Rlimit {
            current: limit,
            maximum: limit,
        };
        // Best effort: the platform checks the resident memory as well.
        let _ = rustix::process::setrlimit(Resource::Data, limit);
    }
}

/// A client of the Runtime API.
struct RuntimeClient {
    /// The URL below which invocations are fetched and answered.
    base: String,
    result_bytes_max: usize,
    agent: Agent,
}

/// An error as the Lambda Runtime API encodes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorDocument<'a> {
    error_type: &'a str,
    error_message: &'a str,
    stack_trace: Vec<&'a str>,
}

impl RuntimeClient {
    /// Takes one event, runs it, and posts its result.
    fn run_next(&self, handler: &dyn Handler) -> Result<(), ureq::Error> {
        let mut response = self.agent.get(format!("{}/next", self.base)).call()?;
        if response.status() != 200 {
            return Err(ureq::Error::StatusCode(response.status().as_u16()));
        }
        let context = context(&response);
        // No limit here: the platform has already limited the size of the payload.
        let event = response
            .body_mut()
            .with_config()
            .limit(u64::MAX)
            .read_to_vec()?;
        let result = run_caught(handler, &context, &event)
            .and_then(|result| check_size(result, self.result_bytes_max));
        group::end_children();
        // Flush before posting the result, so that the platform has all lines when it gets the result.
        let _ = std::io::stdout().flush();
        let _ = std::io::stderr().flush();
        let (path, document) = match &result {
            Ok(bytes) => ("response", envelope::wrap(bytes)),
            Err(error) => ("error", error_document(error)),
        };
        let url = format!("{}/{}/{path}", self.base, context.request_id);
        let mut response = self
            .agent
            .post(url)
            .header("Content-Type", "application/json")
            .send(&document[..])?;
        // The connection can be reused only after this body has been read.
        response.body_mut().read_to_vec()?;
        Ok(())
    }
}

fn context<B>(response: &Response<B>) -> Context {
    let header = |name: &str| response.headers().get(name)?.to_str().ok();
    let deadline_ms = header("Lambda-Runtime-Deadline-Ms").and_then(|text| text.parse().ok());
    Context {
        request_id: header("Lambda-Runtime-Aws-Request-Id")
            .unwrap_or_default()
            .to_owned(),
        deadline: deadline_ms
            .and_then(|ms| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms))),
    }
}

/// Runs an event and turns a panic into an error.
pub(crate) fn run_caught(
    handler: &dyn Handler,
    context: &Context,
    event: &[u8],
) -> Result<Vec<u8>, FunctionError> {
    let payload = envelope::unwrap(event).map_err(FunctionError::envelope)?;
    catch_unwind(AssertUnwindSafe(|| handler.run(context, &payload)))
        .unwrap_or_else(|panic| Err(FunctionError::panic(panic.as_ref())))
}

fn check_size(result: Vec<u8>, max: usize) -> Result<Vec<u8>, FunctionError> {
    if result.len() <= max {
        return Ok(result);
    }
    Err(FunctionError {
        error_type: RESULT_TOO_LARGE.to_owned(),
        message: format!("the result has {} bytes, the limit is {max}", result.len()),
        location: None,
    })
}

/// The error type of a result that exceeds the size limit.
pub(crate) const RESULT_TOO_LARGE: &str = "Crucial.ResultTooLarge";

fn error_document(error: &FunctionError) -> Vec<u8> {
    let document = ErrorDocument {
        error_type: &error.error_type,
        error_message: &error.message,
        stack_trace: error.location.as_deref().into_iter().collect(),
    };
    serde_json::to_vec(&document).expect("strings are JSON")
}
