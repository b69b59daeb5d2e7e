//! Threads of this process in place of workers.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::worker::{Context, FunctionError, Handler, run_caught};
use crate::{
    Completion, Failure, Invocation, InvocationId, PAYLOAD_BYTES_MAX, Platform, complete, envelope,
};

/// Runs each invocation on a thread of this process, through the same bytes as a worker process. For
/// tests and debuggers.
///
/// A thread can not be killed: one that is over its time limit, that is cancelled, or that still runs at
/// [`shutdown`](Platform::shutdown), fails at once, and runs on unheard. It does not count for the
/// concurrency then. Memory limits have no effect; what threads print is not prefixed.
pub struct InProcess {
    shared: Arc<Shared>,
}

struct Shared {
    handler: Arc<dyn Handler>,
    concurrency_max: usize,
    time_limit: Duration,
    state: Mutex<State>,
    /// Something that the watcher waits for.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<(Invocation, Completion)>,
    running: HashMap<u64, Running>,
    deadlines: BTreeSet<(Instant, u64)>,
    last_id: u64,
    /// The thread that watches the deadlines has been started.
    watched: bool,
    stopped: bool,
}

/// An invocation that is not completed.
struct Running {
    invocation: InvocationId,
    done: Completion,
    limit: Duration,
    /// `None`: too late for the clock.
    deadline: Option<Instant>,
}

impl InProcess {
    /// A platform that runs `handler` on up to `concurrency_max` threads (at least one). `time_limit` is
    /// for invocations that have none of their own.
    pub fn new(
        handler: Arc<dyn Handler>,
        concurrency_max: usize,
        time_limit: Duration,
    ) -> InProcess {
        InProcess {
            shared: Arc::new(Shared {
                handler,
                concurrency_max: concurrency_max.max(1),
                time_limit,
                state: Mutex::default(),
                changed: Condvar::new(),
            }),
        }
    }
}

impl Platform for InProcess {
    fn invoke(&self, invocation: Invocation, done: Completion) {
        if invocation.payload.len() > PAYLOAD_BYTES_MAX {
            let failure = Failure::PayloadTooLarge {
                size: invocation.payload.len(),
                max: PAYLOAD_BYTES_MAX,
            };
            return complete(done, Err(failure));
        }
        let mut state = self.shared.state();
        if state.stopped {
            drop(state);
            return complete(done, Err(Failure::Shutdown));
        }
        state.queue.push_back((invocation, done));
        drop(state);
        self.shared.start_waiting();
    }

    fn cancel(&self, id: InvocationId) {
        let mut state = self.shared.state();
        if let Some(position) = state.queue.iter().position(|(waiting, _)| waiting.id == id) {
            let waiting = state.queue.remove(position);
            drop(state);
            if let Some((_, done)) = waiting {
                complete(done, Err(Failure::Cancelled));
            }
            return;
        }
        let mut running = state.running.iter();
        let found = running.find(|(_, running)| running.invocation == id);
        let Some(number) = found.map(|(number, _)| *number) else {
            return;
        };
        drop(state);
        self.shared.end(number, Err(Failure::Cancelled));
        self.shared.start_waiting();
    }

    fn payload_bytes_max(&self) -> usize {
        PAYLOAD_BYTES_MAX
    }

    fn shutdown(&self) {
        let mut state = self.shared.state();
        state.stopped = true;
        state.deadlines.clear();
        let waiting = std::mem::take(&mut state.queue);
        let running = std::mem::take(&mut state.running);
        drop(state);
        self.shared.changed.notify_all();
        let waiting = waiting.into_iter().map(|(_, done)| done);
        for done in waiting.chain(running.into_values().map(|running| running.done)) {
            complete(done, Err(Failure::Shutdown));
        }
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Starts invocations that wait, as far as there is room.
    fn start_waiting(self: &Arc<Self>) {
        while let Some((id, limit, invocation)) = self.take_waiting() {
            if let Err(error) = self.start(id, limit, invocation) {
                let reason = format!("no thread: {error}; a lower concurrency needs fewer");
                self.end(id, Err(Failure::Start { reason }));
            }
        }
    }

    fn take_waiting(&self) -> Option<(u64, Duration, Invocation)> {
        let mut state = self.state();
        if state.running.len() >= self.concurrency_max {
            return None;
        }
        let (invocation, done) = state.queue.pop_front()?;
        let limit = invocation.time_limit.unwrap_or(self.time_limit);
        let deadline = Instant::now().checked_add(limit);
        state.last_id += 1;
        let id = state.last_id;
        let running = Running {
            invocation: invocation.id,
            done,
            limit,
            deadline,
        };
        state.running.insert(id, running);
        if let Some(deadline) = deadline {
            state.deadlines.insert((deadline, id));
            self.changed.notify_one();
        }
        Some((id, limit, invocation))
    }

    fn start(
        self: &Arc<Self>,
        id: u64,
        limit: Duration,
        invocation: Invocation,
    ) -> std::io::Result<()> {
        self.start_watcher()?;
        let shared = self.clone();
        thread::Builder::new()
            // The operating system's names end at a NUL, and the library refuses it.
            .name(invocation.name.replace('\0', " "))
            .spawn(move || {
                let context = Context {
                    request_id: format!("in-process-{id}"),
                    deadline: SystemTime::now().checked_add(limit),
                };
                let event = envelope::wrap(&invocation.payload);
                let result = run(&*shared.handler, &context, &event);
                shared.end(id, result);
                shared.start_waiting();
            })?;
        Ok(())
    }

    /// Completes an invocation, if that has not happened yet.
    fn end(&self, id: u64, result: Result<Vec<u8>, Failure>) {
        let mut state = self.state();
        let Some(running) = state.running.remove(&id) else {
            return;
        };
        if let Some(deadline) = running.deadline {
            state.deadlines.remove(&(deadline, id));
        }
        drop(state);
        complete(running.done, result);
    }

    fn start_watcher(self: &Arc<Self>) -> std::io::Result<()> {
        let mut state = self.state();
        if !state.watched {
            let shared = self.clone();
            thread::Builder::new()
                .name("crucial-deadlines".to_owned())
                .spawn(move || shared.watch())?;
            state.watched = true;
        }
        Ok(())
    }

    /// Fails invocations at their deadlines, until the platform is shut down.
    fn watch(self: &Arc<Self>) {
        let mut state = self.state();
        while !state.stopped {
            let now = Instant::now();
            match state.deadlines.first().copied() {
                Some((deadline, id)) if deadline <= now => {
                    let limit = state.running.get(&id).map_or(Duration::ZERO, |r| r.limit);
                    drop(state);
                    self.end(id, Err(Failure::TimeLimit { limit }));
                    self.start_waiting();
                    state = self.state();
                }
                Some((deadline, _)) => {
                    let waited = self.changed.wait_timeout(state, deadline - now);
                    state = waited.unwrap_or_else(|e| e.into_inner()).0;
                }
                None => state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner()),
            }
        }
    }
}

fn run(handler: &dyn Handler, context: &Context, event: &[u8]) -> Result<Vec<u8>, Failure> {
    let failed = |error: FunctionError| Failure::Function {
        error_type: error.error_type,
        message: error.message,
        location: error.location,
    };
    let result = run_caught(handler, context, event).map_err(failed)?;
    if result.len() > PAYLOAD_BYTES_MAX {
        return Err(Failure::ResultTooLarge {
            max: PAYLOAD_BYTES_MAX,
        });
    }
    envelope::unwrap(&envelope::wrap(&result)).map_err(|e| failed(FunctionError::envelope(e)))
}
