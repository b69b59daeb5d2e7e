//! Helpers that start invocations and wait for their results.

use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use crucial_platform::{Failure, Invocation, InvocationId, LocalConfig, LocalPlatform, Platform};

pub type Outcome = Result<Vec<u8>, Failure>;

/// A test that waits longer than this fails.
const TIMEOUT: Duration = Duration::from_secs(60);

pub fn invocation(payload: impl Into<Vec<u8>>) -> Invocation {
    Invocation {
        id: InvocationId::next(),
        name: "tester".to_owned(),
        payload: payload.into(),
        memory_mb: None,
        time_limit: None,
    }
}

/// An invocation that was started.
pub struct Started(Receiver<Outcome>);

pub fn start(platform: &dyn Platform, invocation: Invocation) -> Started {
    let (sender, receiver) = mpsc::channel();
    let done = move |result| drop(sender.send(result));
    platform.invoke(invocation, Box::new(done));
    Started(receiver)
}

impl Started {
    /// Waits for the result, and checks that no second one follows.
    pub fn wait(self) -> Outcome {
        let result = self
            .0
            .recv_timeout(TIMEOUT)
            .expect("a result comes in time");
        assert!(self.0.recv_timeout(TIMEOUT).is_err(), "a second result");
        result
    }

    pub fn is_waiting(&self) -> bool {
        matches!(self.0.try_recv(), Err(mpsc::TryRecvError::Empty))
    }
}

pub fn run(platform: &dyn Platform, payload: impl Into<Vec<u8>>) -> Outcome {
    start(platform, invocation(payload)).wait()
}

/// The result as text.
pub fn text(outcome: Outcome) -> String {
    String::from_utf8(outcome.expect("a result")).expect("text")
}

pub fn local(config: LocalConfig) -> LocalPlatform {
    LocalPlatform::start(config).expect("the platform starts")
}
