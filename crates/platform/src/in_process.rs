//! A platform that runs invocations on threads of this process.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use crate::envelope;
use crate::platform::{
    Completion, Failure, Invocation, InvocationId, PAYLOAD_BYTES_MAX, Platform, complete,
};
use crate::queue_watch::{self, QUIET, Queue, QueueWatch};
use crate::sink::Prefixed;
use crate::worker::{Context, FunctionError, Handler, run_caught};

/// Runs each invocation on a thread of this process, with the same encoding as a worker process. For tests and
/// debuggers.
///
/// A thread cannot be killed: an invocation that exceeds its time limit, is cancelled, or still runs at
/// [`shutdown`](Platform::shutdown) fails at once; its thread runs on, its result is ignored, and it no longer
/// counts towards the concurrency limit. Memory limits have no effect, and printed lines have no prefix.
pub struct InProcess {
    pool: Arc<ThreadPool>,
}

struct ThreadPool {
    handler: Arc<dyn Handler>,
    concurrency_max: usize,
    time_limit: Duration,
    invocations: Mutex<Invocations>,
    /// Notified when a deadline is added or the platform stops.
    changed: Condvar,
}

#[derive(Default)]
struct Invocations {
    queue: VecDeque<(Invocation, Completion)>,
    running: HashMap<u64, Running>,
    deadlines: BTreeSet<(Instant, u64)>,
    last_id: u64,
    watch: Option<QueueWatch>,
    /// Whether the thread that enforces the deadlines has been started.
    watched: bool,
    stopped: bool,
}

/// An invocation that runs and is not completed.
struct Running {
    invocation: InvocationId,
    name: String,
    done: Completion,
    limit: Duration,
    /// `None` if the deadline is beyond what the clock can represent.
    deadline: Option<Instant>,
}

impl InProcess {
    /// Returns a platform that runs `handler` on up to `concurrency_max` threads (at least one). `time_limit`
    /// applies to invocations that have no limit of their own.
    pub fn new(
        handler: Arc<dyn Handler>,
        concurrency_max: usize,
        time_limit: Duration,
    ) -> InProcess {
        InProcess {
            pool: Arc::new(ThreadPool {
                handler,
                concurrency_max: concurrency_max.max(1),
                time_limit,
                invocations: Mutex::default(),
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
        let mut invocations = self.pool.invocations();
        if invocations.stopped {
            drop(invocations);
            return complete(done, Err(Failure::Shutdown));
        }
        invocations.queue.push_back((invocation, done));
        drop(invocations);
        self.pool.start_waiting();
        // The queue may have to be looked at from now on.
        self.pool.changed.notify_one();
    }

    fn cancel(&self, id: InvocationId) {
        let mut invocations = self.pool.invocations();
        if let Some(position) = invocations
            .queue
            .iter()
            .position(|(waiting, _)| waiting.id == id)
        {
            let waiting = invocations.queue.remove(position);
            drop(invocations);
            if let Some((_, done)) = waiting {
                complete(done, Err(Failure::Cancelled));
            }
            return;
        }
        let mut running = invocations.running.iter();
        let found = running.find(|(_, running)| running.invocation == id);
        let Some(number) = found.map(|(number, _)| *number) else {
            return;
        };
        drop(invocations);
        self.pool.end(number, Err(Failure::Cancelled));
        self.pool.start_waiting();
    }

    fn payload_bytes_max(&self) -> usize {
        PAYLOAD_BYTES_MAX
    }

    fn shutdown(&self) {
        let mut invocations = self.pool.invocations();
        invocations.stopped = true;
        invocations.deadlines.clear();
        let waiting = std::mem::take(&mut invocations.queue);
        let running = std::mem::take(&mut invocations.running);
        drop(invocations);
        self.pool.changed.notify_all();
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

impl ThreadPool {
    fn invocations(&self) -> MutexGuard<'_, Invocations> {
        self.invocations.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Starts waiting invocations, up to the concurrency limit.
    fn start_waiting(self: &Arc<Self>) {
        while let Some((id, limit, invocation)) = self.take_waiting() {
            if let Err(error) = self.start(id, limit, invocation) {
                let reason = format!("{error}; a lower CRUCIAL_CONCURRENCY needs fewer threads");
                self.end(id, Err(Failure::Start { reason }));
            }
        }
    }

    fn take_waiting(&self) -> Option<(u64, Duration, Invocation)> {
        let mut invocations = self.invocations();
        if invocations.running.len() >= self.concurrency_max {
            return None;
        }
        let (invocation, done) = invocations.queue.pop_front()?;
        let limit = invocation.time_limit.unwrap_or(self.time_limit);
        let deadline = Instant::now().checked_add(limit);
        invocations.last_id += 1;
        let id = invocations.last_id;
        let running = Running {
            invocation: invocation.id,
            name: invocation.name.clone(),
            done,
            limit,
            deadline,
        };
        invocations.running.insert(id, running);
        if let Some(deadline) = deadline {
            invocations.deadlines.insert((deadline, id));
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
        let pool = self.clone();
        // A thread's name must not contain NUL: the standard library refuses it.
        let name = invocation.name.replace('\0', " ");
        crucial_local::thread::start(&name, move || {
            let context = Context {
                request_id: format!("in-process-{id}"),
                deadline: SystemTime::now().checked_add(limit),
            };
            let event = envelope::wrap(&invocation.payload);
            let result = run(&*pool.handler, &context, &event);
            pool.end(id, result);
            pool.start_waiting();
        })?;
        Ok(())
    }

    /// Completes an invocation that is not completed yet.
    fn end(&self, id: u64, result: Result<Vec<u8>, Failure>) {
        let mut invocations = self.invocations();
        let Some(running) = invocations.running.remove(&id) else {
            return;
        };
        if let Some(deadline) = running.deadline {
            invocations.deadlines.remove(&(deadline, id));
        }
        drop(invocations);
        complete(running.done, result);
    }

    fn start_watcher(self: &Arc<Self>) -> std::io::Result<()> {
        let mut invocations = self.invocations();
        if !invocations.watched {
            let pool = self.clone();
            crucial_local::thread::start("crucial-deadlines", move || pool.enforce_deadlines())?;
            invocations.watched = true;
        }
        Ok(())
    }

    /// Fails invocations at their deadlines, until the platform is shut down.
    fn enforce_deadlines(self: &Arc<Self>) {
        let mut invocations = self.invocations();
        while !invocations.stopped {
            let now = Instant::now();
            if let Some(said) = invocations.look_at_queue(now, self.concurrency_max) {
                queue_watch::say(&Prefixed, &said);
            }
            let look = (!invocations.queue.is_empty()).then_some(now + QUIET);
            match invocations.deadlines.first().copied() {
                Some((deadline, id)) if deadline <= now => {
                    let limit = invocations
                        .running
                        .get(&id)
                        .map_or(Duration::ZERO, |r| r.limit);
                    drop(invocations);
                    self.end(id, Err(Failure::TimeLimit { limit }));
                    self.start_waiting();
                    invocations = self.invocations();
                }
                next => {
                    let deadline = next.map(|(deadline, _)| deadline);
                    invocations = match deadline.into_iter().chain(look).min() {
                        Some(until) => {
                            let waited = self.changed.wait_timeout(invocations, until - now);
                            waited.unwrap_or_else(|e| e.into_inner()).0
                        }
                        None => {
                            let waited = self.changed.wait(invocations);
                            waited.unwrap_or_else(|e| e.into_inner())
                        }
                    };
                }
            }
        }
    }
}

impl Invocations {
    fn look_at_queue(&mut self, now: Instant, concurrency_max: usize) -> Option<String> {
        let mut running: Vec<_> = self
            .running
            .values()
            .map(|running| &running.name[..])
            .collect();
        running.sort_unstable();
        let queue = Queue {
            steps: self.last_id,
            waiting: self
                .queue
                .iter()
                .map(|(waiting, _)| &waiting.name[..])
                .collect(),
            running,
            concurrency_max,
            limit: "CRUCIAL_CONCURRENCY",
        };
        let watch = self.watch.get_or_insert_with(|| QueueWatch::new(now));
        watch.look(&queue, now)
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
