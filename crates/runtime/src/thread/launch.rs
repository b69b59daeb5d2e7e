//! Launches a cloud thread on the platform, and relaunches the thread if it is to be retried.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use crucial_local::Surroundings;
use crucial_object::held::{self, Holds};
use crucial_object::{Error, Result, decode, encode};
use crucial_platform::{Failure, Invocation, InvocationId, Platform};

use super::control::Control;
use super::current::current;
use super::packet::Packet;
use super::settings::Settings;
use crate::config::Config;
use crate::output;
use crate::parcel::Parcel;
use crate::runtime::Runtime;
use crate::task::{Batch, Payload};
use crate::worker::{Outcome, PANICKED};

/// Back-off for a platform that is over its capacity: each pause is twice as long as the pause before.
const THROTTLE_PAUSE_FIRST: Duration = Duration::from_millis(50);
const THROTTLE_PAUSE_LAST: Duration = Duration::from_secs(10);
/// How often a throttled thread is launched again.
const THROTTLE_RETRIES_MAX: u32 = 40;

/// A cloud thread from its launch to its end.
struct Launch {
    platform: Arc<dyn Platform>,
    payload: Payload,
    settings: Settings,
    packet: Packet,
    control: Arc<Control>,
    throttled: u32,
    /// What keeps the arguments' objects alive until the thread has ended for good.
    holds: Holds,
    /// Goes into the packet when all else is in order.
    outcome: Option<Outcome>,
}

/// Starts a cloud thread.
pub(super) fn launch(
    runtime: &Runtime,
    settings: &Settings,
    name: &str,
    batch: Batch,
    surroundings: &Surroundings,
) -> Result<(Packet, Arc<Control>)> {
    if current().is_some_and(|thread| thread.is_exactly_once()) {
        return Err(Error::Config {
            detail:
                "an exactly-once thread cannot start threads, because each retry would start them again: start \
                     them outside the thread, and let them meet in shared objects"
                    .to_owned(),
        });
    }
    let control = Arc::new(Control::new(
        runtime.client().clone(),
        settings.exactly_once,
    )?);
    let platform = runtime.started_platform()?;
    held::share_statics();
    let launch = Launch {
        payload: Payload {
            name: name.to_owned(),
            thread: control.thread,
            attempt: 1,
            exactly_once: settings.exactly_once,
            is_last: settings.retries_max() == 0,
            servers: runtime.servers(),
            config: Config {
                run: Some(runtime.client().run()),
                ..runtime.config().clone()
            },
            surroundings: surroundings.clone(),
            result_bytes_max: platform.payload_bytes_max() as u64,
            calls: Parcel::Inside(batch.calls),
        },
        holds: batch.holds,
        platform,
        settings: settings.clone(),
        packet: Packet::new(runtime.client().clone()),
        control: control.clone(),
        throttled: 0,
        outcome: None,
    };
    let packet = launch.packet.clone();
    launch.start()?;
    Ok((packet, control))
}

impl Launch {
    /// Gives the payload to the platform. An error says that the payload was refused before anything ran.
    fn start(mut self) -> Result<()> {
        let payload = self.encode_fitting()?;
        let id = InvocationId::next();
        if !self.control.begin_attempt(&self.platform, id) {
            self.end(Err(Error::Cancelled));
            return Ok(());
        }
        let invocation = Invocation {
            id,
            name: self.payload.name.clone(),
            payload,
            memory_mb: self.settings.memory_mb,
            time_limit: self.settings.time_limit,
        };
        let platform = self.platform.clone();
        platform.invoke(invocation, Box::new(move |result| self.on_ended(result)));
        Ok(())
    }

    /// Encodes the payload, with the arguments inside or beside, whichever the platform takes.
    fn encode_fitting(&mut self) -> Result<Vec<u8>> {
        let max = self.platform.payload_bytes_max();
        let payload = encode(&self.payload)?;
        if payload.len() <= max {
            return Ok(payload);
        }
        drop(payload);
        self.payload.calls.put_beside(self.control.client())?;
        let payload = encode(&self.payload)?;
        if payload.len() <= max {
            return Ok(payload);
        }
        Err(Error::LimitExceeded {
            limit: "payload_bytes_max".to_owned(),
            max: max as u64,
            detail: format!(
                "the environment of cloud thread {:?}, and what says where its arguments are, take {} bytes",
                self.payload.name,
                payload.len()
            ),
        })
    }

    /// Records the results of an attempt, or retries the thread.
    fn on_ended(mut self, result: std::result::Result<Vec<u8>, Failure>) {
        let result = result.map(|bytes| decode::<Outcome>(&bytes).unwrap_or_else(Err));
        let failure = match result {
            // A cancelled thread may return, for instance the error of a fenced call: not a result.
            Ok(Ok(results)) if self.control.is_cancelled() => {
                results.discard(self.control.client());
                return self.end(Err(Error::Cancelled));
            }
            Ok(Ok(results)) => {
                self.control.on_ended(false);
                return self.end(Ok(results));
            }
            Ok(Err(error)) => AttemptFailure::Failed(error),
            Err(failure) => AttemptFailure::Lost(failure),
        };
        if self.control.is_cancelled() {
            return self.end(Err(Error::Cancelled));
        }
        if matches!(failure, AttemptFailure::Lost(Failure::Throttled { .. }))
            && self.throttled < THROTTLE_RETRIES_MAX
        {
            let pause = THROTTLE_PAUSE_FIRST * 2u32.saturating_pow(self.throttled.min(16));
            self.throttled += 1;
            return retry_after(pause.min(THROTTLE_PAUSE_LAST), self);
        }
        if self.payload.attempt <= self.settings.retries_max() && failure.may_be_retried() {
            tracing::info!(thread = self.payload.name, %failure, "retried");
            self.say(&failure, " (it is started again)");
            self.payload.attempt += 1;
            self.payload.is_last = self.payload.attempt > self.settings.retries_max();
            self.control.expect_attempt(self.payload.attempt());
            return retry_after(self.settings.retry_delay, self);
        }
        self.control.on_ended(failure.leaves_state_behind());
        self.say(&failure, "");
        let error = failure.error(&self.payload.name);
        self.end(Err(error));
    }

    /// Ends the thread for good.
    fn end(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }

    /// Prints that an attempt has died. A panic was printed where it happened, and an error is a result.
    fn say(&self, failure: &AttemptFailure, then: &str) {
        match failure {
            AttemptFailure::Failed(_)
            | AttemptFailure::Lost(
                Failure::Function { .. } | Failure::Cancelled | Failure::Shutdown,
            ) => {}
            AttemptFailure::Lost(failure) => {
                let error = error(&self.payload.name, failure.clone());
                output::note(format_args!("{error}{then}"));
            }
        }
    }

    /// Starts the thread again.
    fn relaunch(self) {
        let (packet, control) = (self.packet.clone(), self.control.clone());
        if let Err(error) = self.start() {
            control.on_ended(false);
            packet.fill(Err(error));
        }
    }
}

impl Drop for Launch {
    /// The thread has ended for good: its arguments are not needed any more.
    fn drop(&mut self) {
        self.payload.calls.discard(self.control.client());
        match &self.outcome {
            Some(Ok(Parcel::Inside(results))) => self.holds.pin(&results.passed_on),
            _ => self.holds.pin_all(),
        }
        // What is counted (clones of an `Arc`, ends of a channel) is given back before the thread is seen to have ended.
        self.holds = Holds::default();
        if let Some(outcome) = self.outcome.take() {
            self.packet.fill(outcome);
        }
    }
}

/// The reason why an attempt has not returned.
#[derive(Debug)]
enum AttemptFailure {
    /// The worker reports an error.
    Failed(Error),
    /// The platform reports that the function panicked or the worker is gone.
    Lost(Failure),
}

impl AttemptFailure {
    /// Whether another attempt can have another outcome.
    fn may_be_retried(&self) -> bool {
        !matches!(
            self,
            AttemptFailure::Failed(Error::Fenced | Error::Diverged { .. })
                | AttemptFailure::Lost(
                    Failure::PayloadTooLarge { .. }
                        | Failure::ResultTooLarge { .. }
                        | Failure::Shutdown
                )
        )
    }

    /// Whether locks and queue places of the attempt may remain. A worker that reports its failure has released them.
    fn leaves_state_behind(&self) -> bool {
        !matches!(
            self,
            AttemptFailure::Failed(_) | AttemptFailure::Lost(Failure::Function { .. })
        )
    }

    fn error(self, thread: &str) -> Error {
        match self {
            AttemptFailure::Failed(error) => error,
            AttemptFailure::Lost(failure) => error(thread, failure),
        }
    }
}

impl std::fmt::Display for AttemptFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AttemptFailure::Failed(error) => error.fmt(f),
            AttemptFailure::Lost(failure) => failure.fmt(f),
        }
    }
}

fn error(thread: &str, failure: Failure) -> Error {
    let thread = thread.to_owned();
    match failure {
        Failure::Function {
            error_type,
            message,
            location,
        } if error_type == PANICKED => Error::Panicked {
            what: format!("cloud thread {thread:?}"),
            message,
            location: location.unwrap_or_else(|| "an unknown place".to_owned()),
        },
        Failure::WorkerDied { reason, output } => Error::WorkerDied {
            thread,
            reason,
            output,
        },
        Failure::Cancelled => Error::Cancelled,
        Failure::TimeLimit { limit } => Error::TimeLimit { thread, limit },
        Failure::MemoryLimit { limit_mb, .. } => Error::MemoryLimit { thread, limit_mb },
        other => Error::Platform {
            thread,
            reason: other.to_string(),
        },
    }
}

/// A launch that is due at a time.
struct Due(Instant, Launch);

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.0 == other.0
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

/// The thread that waits for retries to become due. The first retry starts the thread.
static RETRIES: LazyLock<Option<Sender<Due>>> = LazyLock::new(|| {
    let (sender, receiver) = mpsc::channel::<Due>();
    let run = move || {
        let mut waiting: BinaryHeap<Reverse<Due>> = BinaryHeap::new();
        loop {
            let pause = match waiting.peek() {
                Some(Reverse(next)) => next.0.saturating_duration_since(Instant::now()),
                None => Duration::from_secs(3600),
            };
            match receiver.recv_timeout(pause) {
                Ok(due) => waiting.push(Reverse(due)),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(Reverse(due)) = waiting.pop() {
                        if due.0 <= Instant::now() {
                            due.1.relaunch();
                        } else {
                            waiting.push(Reverse(due));
                        }
                    }
                }
            }
        }
    };
    let thread = std::thread::Builder::new().name("crucial-retry".to_owned());
    thread.spawn(run).ok().map(|_| sender)
});

/// The longest pause: practically for ever, and still within the clock's range.
const PAUSE_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

fn retry_after(pause: Duration, launch: Launch) {
    let due = Due(Instant::now() + pause.min(PAUSE_MAX), launch);
    match &*RETRIES {
        Some(retries) => {
            if let Err(mpsc::SendError(due)) = retries.send(due) {
                due.1.relaunch();
            }
        }
        // The thread could not be started: retry without a pause.
        None => due.1.relaunch(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use crucial_platform::{Completion, InProcess};

    use super::*;
    use crate::task::{CloudFunction, FunctionCall};
    use crate::thread::join::JoinHandle;
    use crate::worker::Worker;

    inventory::submit! {
        CloudFunction { name: "launch::tests::seven", run: |_| Ok(encode(&7u8)?.into()) }
    }

    inventory::submit! {
        CloudFunction { name: "launch::tests::same", run: |arguments| Ok(arguments.to_vec().into()) }
    }

    /// The platform's largest payload.
    const PAYLOAD_BYTES: usize = 2000;

    /// A platform that fails a number of times, and then works.
    struct Failing {
        inner: InProcess,
        failures: AtomicU32,
        failure: fn() -> Failure,
    }

    impl Failing {
        fn runtime(failures: u32, failure: fn() -> Failure) -> Runtime {
            let time_limit = Duration::from_secs(60);
            let platform = Failing {
                inner: InProcess::new(Arc::new(Worker::in_process()), 4, time_limit),
                failures: AtomicU32::new(failures),
                failure,
            };
            Runtime::on(Arc::new(platform)).unwrap()
        }
    }

    fn seven() -> Batch {
        let call = FunctionCall {
            function: "launch::tests::seven".to_owned(),
            arguments: Vec::new(),
        };
        Batch {
            calls: vec![call],
            ..Batch::default()
        }
    }

    fn launch_here(
        runtime: &Runtime,
        settings: &Settings,
        name: &str,
    ) -> Result<(Packet, Arc<Control>)> {
        launch(runtime, settings, name, seven(), &Surroundings::default())
    }

    impl Platform for Failing {
        fn invoke(&self, invocation: Invocation, done: Completion) {
            let fail = |left: u32| left.checked_sub(1);
            let failed = self
                .failures
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fail);
            match failed {
                Ok(_) => done(Err((self.failure)())),
                Err(_) => self.inner.invoke(invocation, done),
            }
        }

        fn cancel(&self, id: InvocationId) {
            self.inner.cancel(id);
        }

        fn payload_bytes_max(&self) -> usize {
            PAYLOAD_BYTES
        }

        fn shutdown(&self) {
            self.inner.shutdown();
        }
    }

    #[test]
    fn f18_a_throttled_thread_backs_off_and_runs() {
        let runtime = Failing::runtime(3, || Failure::Throttled {
            reason: "429".to_owned(),
        });
        let start = Instant::now();
        // The thread has no retries: a throttled launch does not count as an attempt.
        let (packet, _) = launch_here(&runtime, &Settings::default(), "seven").unwrap();
        let results = packet.take().unwrap();
        assert_eq!(decode::<u8>(&results.of_calls[0].result), Ok(7));
        // 50, 100 and 200 ms.
        assert!(start.elapsed() >= 7 * THROTTLE_PAUSE_FIRST);
    }

    /// These tests have no `main` of their own.
    #[test]
    fn local_workers_need_an_executable_that_can_be_one() {
        let config = Config {
            platform: Some(crate::PlatformKind::Local),
            ..Config::default()
        };
        let runtime = Runtime::start(config).unwrap();
        let refused = launch_here(&runtime, &Settings::default(), "seven");
        let error = refused.err().unwrap().to_string();
        assert!(error.contains("#[crucial::main]"), "{error}");
    }

    /// The objects of the run.
    fn objects(runtime: &Runtime) -> usize {
        let objects = runtime.client().object_infos(None, 1000, None);
        objects.unwrap().len()
    }

    /// Arguments and results beside the payload go with the thread, whether it returns, fails, or is not joined.
    #[test]
    fn what_is_too_large_for_a_payload_travels_beside_it() {
        let died = || Failure::WorkerDied {
            reason: "test".to_owned(),
            output: Vec::new(),
        };
        let runtime = Failing::runtime(2, died);
        let bytes = vec![7; 100 * PAYLOAD_BYTES];
        let retried = Settings {
            retries: Some(1),
            ..Settings::default()
        };
        let spawn = |settings: &Settings| {
            let mut batch = Batch::default();
            batch.calls.push(FunctionCall {
                function: "launch::tests::same".to_owned(),
                arguments: bytes.clone(),
            });
            let (packet, control) =
                launch(&runtime, settings, "same", batch, &Surroundings::default()).unwrap();
            JoinHandle::<u8>::new("same".to_owned(), packet, Some(control))
        };
        assert_eq!(objects(&runtime), 0);
        assert!(spawn(&Settings::default()).join().is_err());
        assert_eq!(objects(&runtime), 0);
        let results = spawn(&retried).into_parts().0.take().unwrap();
        assert_eq!(results.of_calls[0].result, bytes);
        assert_eq!(objects(&runtime), 0);
        let detached = spawn(&retried);
        assert!(detached.wait_timeout(Duration::MAX));
        assert_eq!(objects(&runtime), 1, "the result");
        drop(detached);
        assert_eq!(objects(&runtime), 0);
    }

    #[test]
    fn a_thread_that_is_never_retried_delays_no_other() {
        let runtime = Failing::runtime(2, || Failure::WorkerDied {
            reason: "test".to_owned(),
            output: Vec::new(),
        });
        let never = Settings {
            retries: Some(1),
            retry_delay: Duration::MAX,
            ..Settings::default()
        };
        let (waits, _) = launch_here(&runtime, &never, "never").unwrap();
        let soon = Settings {
            retries: Some(1),
            ..Settings::default()
        };
        let (runs, _) = launch_here(&runtime, &soon, "soon").unwrap();
        let handle = JoinHandle::<u8>::new("soon".to_owned(), runs, None);
        assert!(handle.wait_timeout(Duration::MAX));
        assert_eq!(handle.join(), Ok(7));
        assert!(!waits.is_finished());
    }
}
