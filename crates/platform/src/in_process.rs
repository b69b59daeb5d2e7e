//! Threads of this process in place of workers.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::worker::{Context, FunctionError, Handler};
use crate::{Completion, Failure, Invocation, PAYLOAD_BYTES_MAX, Platform, envelope};

/// Runs each invocation on a thread of this process, through the same bytes as a worker process. For
/// tests and debuggers.
///
/// A thread can not be killed: one that is over its time limit fails, and runs on unheard; memory limits
/// have no effect; what threads print is not prefixed.
pub struct InProcess {
    shared: Arc<Shared>,
}

struct Shared {
    handler: Arc<dyn Handler>,
    concurrency_max: usize,
    time_limit: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<(Invocation, Completion)>,
    running: usize,
    stopped: bool,
}

impl InProcess {
    /// A platform that runs `handler`, on up to `concurrency_max` threads.
    pub fn new(handler: Arc<dyn Handler>, concurrency_max: usize, time_limit: Duration) -> InProcess {
        InProcess {
            shared: Arc::new(Shared {
                handler,
                concurrency_max: concurrency_max.max(1),
                time_limit,
                state: Mutex::default(),
            }),
        }
    }
}

impl Platform for InProcess {
    fn invoke(&self, invocation: Invocation, done: Completion) {
        if invocation.payload.len() > PAYLOAD_BYTES_MAX {
            return done(Err(Failure::PayloadTooLarge {
                size: invocation.payload.len(),
                max: PAYLOAD_BYTES_MAX,
            }));
        }
        let mut state = self.shared.state();
        if state.stopped {
            drop(state);
            return done(Err(Failure::Shutdown));
        }
        state.queue.push_back((invocation, done));
        drop(state);
        self.shared.start();
    }

    fn payload_bytes_max(&self) -> usize {
        PAYLOAD_BYTES_MAX
    }

    fn shutdown(&self) {
        let queue = {
            let mut state = self.shared.state();
            state.stopped = true;
            std::mem::take(&mut state.queue)
        };
        for (_, done) in queue {
            done(Err(Failure::Shutdown));
        }
        // Threads can not be ended: those that wait for shared objects end when their client does.
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Starts the next invocation if there is room.
    fn start(self: &Arc<Self>) {
        let next = {
            let mut state = self.state();
            if state.running >= self.concurrency_max {
                return;
            }
            let Some(next) = state.queue.pop_front() else {
                return;
            };
            state.running += 1;
            next
        };
        let shared = self.clone();
        let (invocation, done) = next;
        let supervisor = thread::Builder::new().name("crucial-in-process".to_owned());
        let slot = Arc::new(Mutex::new(Some(done)));
        let for_thread = slot.clone();
        let spawned = supervisor.spawn(move || {
            let result = shared.supervise(&invocation);
            complete(&for_thread, result);
            shared.ended();
        });
        if let Err(error) = spawned {
            complete(
                &slot,
                Err(Failure::Start {
                    reason: error.to_string(),
                }),
            );
            self.ended();
        }
    }

    fn ended(self: &Arc<Self>) {
        self.state().running -= 1;
        self.start();
    }

    fn supervise(self: &Arc<Self>, invocation: &Invocation) -> Result<Vec<u8>, Failure> {
        let limit = invocation.time_limit.unwrap_or(self.time_limit);
        let event = envelope::wrap(&invocation.payload);
        let (sender, receiver) = mpsc::channel();
        let shared = self.clone();
        thread::Builder::new()
            .name(invocation.name.clone())
            .spawn(move || {
                let context = Context {
                    request_id: "in-process".to_owned(),
                    deadline: SystemTime::now().checked_add(limit),
                };
                // The receiver is gone if the time limit has passed.
                let _ = sender.send(run(&*shared.handler, &context, &event));
            })
            .map_err(|error| Failure::Start {
                reason: error.to_string(),
            })?;
        match receiver.recv_timeout(limit) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(Failure::TimeLimit { limit }),
            Err(RecvTimeoutError::Disconnected) => Err(Failure::WorkerDied {
                reason: "its thread ended".to_owned(),
                output: Vec::new(),
            }),
        }
    }
}

fn complete(slot: &Mutex<Option<Completion>>, result: Result<Vec<u8>, Failure>) {
    let done = slot.lock().unwrap_or_else(|e| e.into_inner()).take();
    if let Some(done) = done {
        done(result);
    }
}

fn run(handler: &dyn Handler, context: &Context, event: &[u8]) -> Result<Vec<u8>, Failure> {
    let failed = |error: FunctionError| Failure::Function {
        error_type: error.error_type,
        message: error.message,
        location: error.location,
    };
    let payload = envelope::unwrap(event).map_err(|e| failed(FunctionError::envelope(e)))?;
    let result = catch_unwind(AssertUnwindSafe(|| handler.run(context, &payload)))
        .unwrap_or_else(|panic| Err(FunctionError::panic(panic.as_ref())))
        .map_err(failed)?;
    if result.len() > PAYLOAD_BYTES_MAX {
        return Err(Failure::ResultTooLarge {
            max: PAYLOAD_BYTES_MAX,
        });
    }
    envelope::unwrap(&envelope::wrap(&result)).map_err(|e| failed(FunctionError::envelope(e)))
}
