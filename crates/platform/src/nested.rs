//! A local platform as its workers reach it.
//!
//! What a worker starts runs beside the worker, as a worker of the same platform, and not below it: so a platform's limits
//! count all invocations of a program, each has a process with a memory limit of its own, and its lines come straight to
//! the program. A worker posts its invocations to the platform's API, beside those of the Runtime API, and one thread of it
//! fetches the outcomes. Invocations of a worker whose process ends are cancelled.
//!
//! Messages are a line of JSON and then bytes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use ureq::Agent;

use crate::envelope;
use crate::platform::{Completion, Failure, Invocation, InvocationId, Platform, complete};

/// The platform of this worker.
static OUTER: OnceLock<Nested> = OnceLock::new();

/// What a worker says of an invocation; its event follows.
#[derive(Serialize, Deserialize)]
pub(crate) struct Request {
    pub name: String,
    pub memory_mb: Option<u32>,
    pub time_limit: Option<Duration>,
}

/// What the platform says of the end of an invocation; its result follows.
#[derive(Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The worker's number of the invocation.
    pub number: u64,
    pub failure: Option<Failure>,
}

/// Writes a message.
pub(crate) fn message<T: Serialize>(head: &T, body: &[u8]) -> Vec<u8> {
    let mut message = serde_json::to_vec(head).expect("text and numbers are JSON");
    message.push(b'\n');
    message.extend_from_slice(body);
    message
}

/// Reads a message; `None` if its first line is not what is expected.
pub(crate) fn parse<T: DeserializeOwned>(message: &[u8]) -> Option<(T, &[u8])> {
    let end = message.iter().position(|byte| *byte == b'\n')?;
    let head = serde_json::from_slice(&message[..end]).ok()?;
    Some((head, &message[end + 1..]))
}

/// Records where the platform of this worker is: its version of the API, below which both APIs are.
pub(crate) fn remember(agent: Agent, base: &str, payload_bytes_max: usize) {
    let nested = Nested(Arc::new(Inner {
        agent,
        base: format!("{base}/crucial"),
        payload_bytes_max,
        state: Mutex::default(),
    }));
    // A process is a worker once.
    let _ = OUTER.set(nested);
}

/// The platform that runs this process as a worker, for invocations by the worker; `None` if this is no worker, or if its
/// platform takes no invocations from its workers. A local platform does.
pub fn platform() -> Option<Arc<dyn Platform>> {
    let outer = OUTER.get()?;
    Some(Arc::new(outer.clone()))
}

#[derive(Clone)]
struct Nested(Arc<Inner>);

struct Inner {
    agent: Agent,
    base: String,
    payload_bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: HashMap<InvocationId, Completion>,
    /// Whether a thread fetches outcomes.
    is_fetched: bool,
}

impl Platform for Nested {
    fn invoke(&self, invocation: Invocation, done: Completion) {
        let size = invocation.payload.len();
        if size > self.0.payload_bytes_max {
            let max = self.0.payload_bytes_max;
            return complete(done, Err(Failure::PayloadTooLarge { size, max }));
        }
        let request = Request {
            name: invocation.name,
            memory_mb: invocation.memory_mb,
            time_limit: invocation.time_limit,
        };
        let message = message(&request, &envelope::wrap(&invocation.payload));
        self.0.state().running.insert(invocation.id, done);
        let posted = self.fetch_outcomes().map_err(|error| error.to_string());
        let posted = posted.and_then(|()| self.0.post(invocation.id, &message));
        if let Err(reason) = posted {
            self.0.end(invocation.id, Err(Failure::Start { reason }));
        }
    }

    fn cancel(&self, id: InvocationId) {
        // If the platform does not answer, it is about to end, and with it the invocation and this process.
        let _ = self.0.agent.delete(self.0.url(id)).call();
    }

    fn payload_bytes_max(&self) -> usize {
        self.0.payload_bytes_max
    }

    fn shutdown(&self) {
        let running = std::mem::take(&mut self.0.state().running);
        for (id, done) in running {
            self.cancel(id);
            complete(done, Err(Failure::Shutdown));
        }
    }
}

impl Nested {
    /// Starts the thread that fetches outcomes, unless it runs.
    fn fetch_outcomes(&self) -> std::io::Result<()> {
        let mut state = self.0.state();
        if !state.is_fetched {
            let inner = self.0.clone();
            crucial_local::thread::start("crucial-outcomes", move || inner.fetch())?;
            state.is_fetched = true;
        }
        Ok(())
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn url(&self, id: InvocationId) -> String {
        format!("{}/invocations/{}", self.base, id.number())
    }

    fn post(&self, id: InvocationId, message: &[u8]) -> Result<(), String> {
        let sent = self.agent.post(self.url(id)).send(message);
        let mut response = sent.map_err(|error| format!("the platform is not there: {error}"))?;
        let status = response.status().as_u16();
        // The connection can be reused only after this body has been read.
        let text = response.body_mut().read_to_string().unwrap_or_default();
        match status {
            202 => Ok(()),
            _ => Err(format!("the platform refuses: {text} ({status})")),
        }
    }

    fn end(&self, id: InvocationId, result: Result<Vec<u8>, Failure>) {
        let done = self.state().running.remove(&id);
        if let Some(done) = done {
            complete(done, result);
        }
    }

    /// Fetches outcomes until the platform ends.
    fn fetch(&self) {
        while let Some((id, result)) = self.next_outcome() {
            self.end(id, result);
        }
        let mut state = self.state();
        state.is_fetched = false;
        let running = std::mem::take(&mut state.running);
        drop(state);
        for done in running.into_values() {
            complete(done, Err(Failure::Shutdown));
        }
    }

    /// Waits for the next outcome; `None` if the platform is not there any more.
    fn next_outcome(&self) -> Option<(InvocationId, Result<Vec<u8>, Failure>)> {
        let url = format!("{}/outcomes/next", self.base);
        let mut response = self.agent.get(url).call().ok()?;
        // No limit here: the platform has already limited the size of the result.
        let body = response.body_mut().with_config().limit(u64::MAX);
        let message = body.read_to_vec().ok()?;
        let (outcome, result) = parse::<Outcome>(&message)?;
        let result = match outcome.failure {
            Some(failure) => Err(failure),
            None => Ok(result.to_vec()),
        };
        Some((InvocationId::numbered(outcome.number), result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let failure = Failure::TimeLimit {
            limit: Duration::from_millis(1500),
        };
        let outcome = Outcome {
            number: u64::MAX,
            failure: Some(failure.clone()),
        };
        let message = message(&outcome, b"a\nb");
        let (read, body) = parse::<Outcome>(&message).unwrap();
        assert_eq!((read.number, read.failure), (u64::MAX, Some(failure)));
        assert_eq!(body, b"a\nb");
        for garbage in [&b""[..], b"{}", b"{}\n", b"\n{}"] {
            assert!(parse::<Outcome>(garbage).is_none());
        }
    }
}
