//! A worker: takes events from the Lambda Runtime API, one after the other, and gives results.
//!
//! The same code runs behind [`LocalPlatform`](crate::LocalPlatform) and, as a custom runtime, on AWS.

use std::any::Any;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, SystemTime};

use rustix::process::{Resource, Rlimit, Signal};
use serde::Serialize;
use ureq::Agent;
use ureq::http::Response;

use crate::{PAYLOAD_BYTES_MAX, envelope};

/// Set by the local platform, to its process id.
pub(crate) const LOCAL_VARIABLE: &str = "CRUCIAL_LOCAL_WORKER";
pub(crate) const API_VARIABLE: &str = "AWS_LAMBDA_RUNTIME_API";
pub(crate) const MEMORY_VARIABLE: &str = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE";

/// The version of the Runtime API.
pub(crate) const API_VERSION: &str = "2018-06-01";

/// Runs payloads.
pub trait Handler: Send + Sync {
    /// Runs one. A panic counts as an error, but a handler does better to catch it and to say where it
    /// happened.
    fn run(&self, context: &Context, payload: &[u8]) -> Result<Vec<u8>, FunctionError>;
}

/// What is known of an invocation.
#[derive(Clone, Debug)]
pub struct Context {
    /// The platform's name for it.
    pub request_id: String,
    /// When the platform will end it.
    pub deadline: Option<SystemTime>,
}

/// Why a function has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionError {
    /// What kind of error.
    pub error_type: String,
    /// Its message.
    pub message: String,
    /// Where it happened.
    pub location: Option<String>,
}

impl FunctionError {
    pub(crate) fn envelope(message: String) -> FunctionError {
        FunctionError {
            error_type: "Envelope".to_owned(),
            message,
            location: None,
        }
    }

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

/// Whether a platform started this process as a worker.
pub fn is_worker() -> bool {
    std::env::var_os(API_VARIABLE).is_some()
}

/// Runs a worker until its platform ends it, on the calling thread.
///
/// # Panics
///
/// If this process is no worker: see [`is_worker`].
pub fn run(handler: &dyn Handler) -> ! {
    let api = std::env::var(API_VARIABLE).expect("a worker has AWS_LAMBDA_RUNTIME_API");
    if let Ok(platform) = std::env::var(LOCAL_VARIABLE) {
        bind_to(&platform);
    }
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(None)
        .build()
        .into();
    let worker = Worker {
        base: format!("http://{api}/{API_VERSION}/runtime/invocation"),
        agent,
    };
    loop {
        if let Err(error) = worker.step(handler) {
            // Whoever ran the platform is gone, or ends it.
            tracing::debug!(%error, "the Runtime API is gone");
            std::process::exit(0);
        }
    }
}

/// Ends this process with the platform's, and holds it to its memory.
fn bind_to(platform: &str) {
    // Best effort: without it, the worker ends when it next asks for work.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if parent.as_deref() != Some(platform) {
        std::process::exit(0);
    }
    let memory_mb = std::env::var(MEMORY_VARIABLE).ok();
    if let Some(memory_mb) = memory_mb.and_then(|text| text.parse::<u64>().ok()) {
        let limit = Some(memory_mb << 20);
        let limit = Rlimit {
            current: limit,
            maximum: limit,
        };
        let _ = rustix::process::setrlimit(Resource::Data, limit);
    }
}

struct Worker {
    /// Where invocations are.
    base: String,
    agent: Agent,
}

/// An error, in Lambda's words.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorDocument<'a> {
    error_type: &'a str,
    error_message: &'a str,
    stack_trace: Vec<&'a str>,
}

impl Worker {
    /// Takes one event, runs it, and gives its result.
    fn step(&self, handler: &dyn Handler) -> Result<(), ureq::Error> {
        let mut response = self.agent.get(format!("{}/next", self.base)).call()?;
        if response.status() != 200 {
            return Err(ureq::Error::StatusCode(response.status().as_u16()));
        }
        let context = context(&response);
        let limit = envelope::wrapped_len_max(PAYLOAD_BYTES_MAX) as u64;
        let event = response
            .body_mut()
            .with_config()
            .limit(limit)
            .read_to_vec()?;
        let result = run_caught(handler, &context, &event);
        // Before the result, so that the platform has the lines when it has that.
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
        // The connection can be used again when its body is read.
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

fn run_caught(
    handler: &dyn Handler,
    context: &Context,
    event: &[u8],
) -> Result<Vec<u8>, FunctionError> {
    let payload = envelope::unwrap(event).map_err(FunctionError::envelope)?;
    let result = catch_unwind(AssertUnwindSafe(|| handler.run(context, &payload)))
        .unwrap_or_else(|panic| Err(FunctionError::panic(panic.as_ref())))?;
    if result.len() > PAYLOAD_BYTES_MAX {
        return Err(FunctionError {
            error_type: RESULT_TOO_LARGE.to_owned(),
            message: format!("a result of {} bytes", result.len()),
            location: None,
        });
    }
    Ok(result)
}

/// The error type for a result that is over the limit.
pub(crate) const RESULT_TOO_LARGE: &str = "ResultTooLarge";

fn error_document(error: &FunctionError) -> Vec<u8> {
    let document = ErrorDocument {
        error_type: &error.error_type,
        error_message: &error.message,
        stack_trace: error.location.as_deref().into_iter().collect(),
    };
    serde_json::to_vec(&document).expect("strings are JSON")
}
