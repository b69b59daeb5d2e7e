//! The pool of workers: assigns waiting invocations to idle workers, and starts new workers.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use super::config::LocalConfig;
use super::outcomes::Outcomes;
use super::output::Output;
use super::process::{self, OWN_EXECUTABLE, Room};
use super::process_state::{Event, ProcessState, WorkerProcess};
use crate::platform::{Completion, Failure, InvocationId, complete};
use crate::queue_watch::{self, Queue, QueueWatch};

/// A start may take at most this multiple of `start_timeout`, even when other workers start at the same time.
const START_TIMEOUT_FACTOR: u32 = 10;

/// How often somebody looks whether a queue stands still.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// A memory limit. A worker runs only invocations with the same memory limit.
type MemoryMb = Option<u32>;

pub(super) struct Pool {
    pub config: LocalConfig,
    /// How many workers there can be.
    room: Cell<Room>,
    /// `HOST:PORT` of the Runtime API.
    api: String,
    pub state: RefCell<PoolState>,
    /// When a worker last sent its first request.
    pub last_arrival: Cell<Instant>,
    /// Notified when more workers may be needed.
    pub wanted: Notify,
    /// Notified when a worker becomes busy.
    pub busy: Notify,
    /// Notified when the last worker has ended.
    empty: Notify,
    /// Whether somebody looks at the queue.
    is_watched: Cell<bool>,
}

#[derive(Default)]
pub(super) struct PoolState {
    /// Invocations that wait for a worker. No queue is empty.
    queues: HashMap<MemoryMb, VecDeque<Waiting>>,
    pub workers: HashMap<u64, WorkerProcess>,
    /// Workers that wait for an invocation, the most recent last.
    pub idle: HashMap<MemoryMb, Vec<u64>>,
    last_worker: u64,
    last_order: u64,
    /// How many invocations were assigned to workers.
    assigned: u64,
    /// The invocations that workers have posted, by worker and the worker's number.
    pub from_workers: HashMap<(u64, u64), InvocationId>,
    stopping: bool,
}

/// An invocation with its payload in an envelope.
pub(super) struct Job {
    pub id: InvocationId,
    pub name: String,
    pub event: Vec<u8>,
    pub memory_mb: MemoryMb,
    pub limit: Duration,
    pub done: Completion,
}

struct Waiting {
    /// The invocation's position in the order of arrival.
    order: u64,
    job: Job,
}

impl Pool {
    /// Returns a pool without workers. `room` is what the system allows, `api` the `HOST:PORT` of the Runtime API.
    pub fn new(config: LocalConfig, room: Room, api: String) -> Rc<Pool> {
        let configured = Room {
            workers: config.concurrency_max.max(1),
            limit: "CRUCIAL_CONCURRENCY",
        };
        let tightest = [configured, room]
            .into_iter()
            .min_by_key(|room| room.workers);
        Rc::new(Pool {
            api,
            room: Cell::new(tightest.unwrap_or(configured)),
            config,
            state: RefCell::default(),
            last_arrival: Cell::new(Instant::now()),
            wanted: Notify::new(),
            busy: Notify::new(),
            empty: Notify::new(),
            is_watched: Cell::new(false),
        })
    }

    pub fn invoke(self: &Rc<Self>, job: Job) {
        let least = self.config.memory_mb_min;
        if let Some(limit_mb) = job.memory_mb.filter(|limit_mb| *limit_mb < least) {
            let reason =
                format!("a memory limit of {limit_mb} MB, and a worker needs {least} MB at least");
            return complete(job.done, Err(Failure::Start { reason }));
        }
        {
            let mut state = self.state.borrow_mut();
            state.last_order += 1;
            let order = state.last_order;
            let queue = state.queues.entry(job.memory_mb).or_default();
            queue.push_back(Waiting { order, job });
        }
        self.dispatch();
        self.watch_queue();
    }

    /// Says from time to time that invocations queue while nothing goes on.
    fn watch_queue(self: &Rc<Self>) {
        if self.state.borrow().queues.is_empty() || self.is_watched.replace(true) {
            return;
        }
        let pool = self.clone();
        tokio::task::spawn_local(async move {
            let mut watch = QueueWatch::new(Instant::now());
            while !pool.state.borrow().queues.is_empty() {
                // A look once a second, only while something queues: what is looked for is that nothing happens, which
                // announces itself by nothing.
                tokio::time::sleep(LOOK_PAUSE).await;
                let said = pool.look_at_queue(&mut watch);
                if let Some(said) = said {
                    queue_watch::say(&*pool.config.output, &said);
                }
            }
            pool.is_watched.set(false);
        });
    }

    fn look_at_queue(&self, watch: &mut QueueWatch) -> Option<String> {
        let state = self.state.borrow();
        let is_full = state.workers.len() >= self.concurrency_max();
        let waiting = state.queues.values().flatten().filter(|_| is_full);
        let running = state
            .workers
            .values()
            .filter_map(|worker| match &worker.state {
                ProcessState::Busy { name, .. } => Some(&name[..]),
                _ => None,
            });
        let mut queue = Queue {
            steps: state.assigned,
            waiting: waiting.map(|waiting| &waiting.job.name[..]).collect(),
            running: running.collect(),
            concurrency_max: self.concurrency_max(),
            limit: self.room.get().limit,
        };
        queue.running.sort_unstable();
        watch.look(&queue, Instant::now())
    }

    /// Ends a waiting or running invocation.
    pub fn cancel(&self, id: InvocationId) {
        let waiting = {
            let mut state = self.state.borrow_mut();
            let mut workers = state.workers.values_mut();
            let runs = |worker: &&mut WorkerProcess| matches!(&worker.state, ProcessState::Busy { id: busy, .. } if *busy == id);
            if let Some(worker) = workers.find(runs) {
                return worker.kill(Failure::Cancelled);
            }
            state.remove_waiting(id)
        };
        if let Some(Waiting { job, .. }) = waiting {
            complete(job.done, Err(Failure::Cancelled));
        }
    }

    /// Assigns waiting invocations to idle workers, and requests new workers for the others.
    fn dispatch(self: &Rc<Self>) {
        let sizes = self.state.borrow().waiting_sizes();
        for memory_mb in sizes {
            while self.assign_oldest(memory_mb) {}
            // This must come before idle workers of other memory limits get later invocations.
            self.end_idle_for(memory_mb);
        }
        if !self.state.borrow().queues.is_empty() {
            self.wanted.notify_one();
        }
    }

    /// Assigns the oldest invocation to an idle worker. Returns false if no invocation waits or no worker is idle.
    fn assign_oldest(self: &Rc<Self>, memory_mb: MemoryMb) -> bool {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if !state.queues.contains_key(&memory_mb) {
            return false;
        }
        let Some(id) = state.idle.get_mut(&memory_mb).and_then(Vec::pop) else {
            return false;
        };
        let worker = state
            .workers
            .get_mut(&id)
            .expect("every idle worker is in the table of workers");
        let returning = ProcessState::Returning {
            since: Instant::now(),
        };
        let ProcessState::Idle { sender, .. } = std::mem::replace(&mut worker.state, returning)
        else {
            unreachable!("only idle workers are among the idle");
        };
        if sender.is_closed() || process::has_ended(worker.pid) {
            // The worker has just died or lost its connection. The invocation has not started, so that it waits
            // for another worker.
            worker.end();
            return true;
        }
        let order = state.last_order + 1;
        state.last_order = order;
        let Some(Waiting { job, .. }) = state.pop_waiting(memory_mb) else {
            unreachable!("no queue is empty");
        };
        let request_id = format!("{id}-{order}");
        let worker = state
            .workers
            .get_mut(&id)
            .expect("the worker was found above");
        worker.output.begin(&job.name);
        state.assigned += 1;
        worker.state = ProcessState::Busy {
            id: job.id,
            name: job.name,
            request_id: request_id.clone(),
            done: job.done,
            limit: kill_after(self, id, job.limit, request_id.clone()),
        };
        // Sending cannot fail: the channel was open above, and no other task has run since.
        let _ = sender.send(Event {
            request_id,
            deadline_ms: deadline_ms(job.limit),
            document: job.event,
        });
        self.busy.notify_one();
        true
    }

    /// The memory limit of the next worker to start, if one is needed and `concurrency_max` allows it.
    pub fn needed_worker(&self) -> Option<MemoryMb> {
        let state = self.state.borrow();
        if state.stopping || state.workers.len() >= self.concurrency_max() {
            return None;
        }
        let mut sizes = state.waiting_sizes().into_iter();
        sizes.find(|memory_mb| state.missing_workers(*memory_mb) > 0)
    }

    /// If `concurrency_max` does not allow the workers that are needed, ends idle workers with other memory limits.
    /// The needed workers are started when those have ended.
    fn end_idle_for(&self, memory_mb: MemoryMb) {
        let mut state = self.state.borrow_mut();
        if state.workers.len() < self.concurrency_max()
            || !state.has_idle_of_another_size(memory_mb)
        {
            return;
        }
        let workers = state.workers.values();
        let ending = workers
            .filter(|w| matches!(w.state, ProcessState::Ending))
            .count();
        for _ in ending..state.missing_workers(memory_mb) {
            if !state.end_idle_of_another_size(memory_mb) {
                break;
            }
        }
    }

    fn concurrency_max(&self) -> usize {
        self.room.get().workers
    }

    /// A worker could not be started: there is room for those that there are, or for none.
    pub fn on_not_started(&self, memory_mb: MemoryMb, error: &io::Error) {
        let workers = self.state.borrow().workers.len();
        let executable = process::executable(&self.config);
        let executable = executable.display();
        let reason = match crucial_local::exceeded_limit(error) {
            Some(limit) if workers > 0 => {
                tracing::info!(workers, limit, %error, "no further worker can be started");
                return self.room.set(Room { workers, limit });
            }
            None if error.kind() == io::ErrorKind::NotFound && self.config.executable.is_none() => {
                format!(
                    "{executable} is started by way of {OWN_EXECUTABLE}, which is not there: mount /proc"
                )
            }
            _ => format!("{executable}: {}", crucial_local::thread::reason(error)),
        };
        self.fail_oldest(memory_mb, Failure::Start { reason });
    }

    pub fn start_worker(self: &Rc<Self>, memory_mb: MemoryMb) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        let id = state.last_worker + 1;
        state.last_worker = id;
        let mut token = [0; 16];
        getrandom::fill(&mut token).map_err(io::Error::other)?;
        let token: String = token.iter().map(|byte| format!("{byte:02x}")).collect();
        let api = format!("{}/{id}/{token}", self.api);
        let process::Started {
            child,
            pid,
            stdout,
            stderr,
        } = process::start(&self.config, &api, memory_mb)?;
        let name = format!("worker {}", pid.as_raw_nonzero());
        let output = Output::new(stdout, stderr, name, self.config.output.clone());
        let worker = WorkerProcess {
            token,
            pid,
            memory_mb,
            output: output.inspect_err(|_| process::kill(pid))?,
            outcomes: Outcomes::new(),
            state: ProcessState::Starting,
            reason: None,
        };
        state.workers.insert(id, worker);
        drop(state);

        let pool = self.clone();
        tokio::task::spawn_local(async move {
            let status = process::wait(child).await;
            pool.on_process_end(id, status);
        });
        tokio::task::spawn_local(enforce_start(self.clone(), id));
        Ok(())
    }

    /// Whether the token belongs to the worker.
    pub fn is_worker(&self, id: u64, token: &str) -> bool {
        let state = self.state.borrow();
        state
            .workers
            .get(&id)
            .is_some_and(|worker| worker.token == token)
    }

    /// Waits for an event for the worker. Fails at once if the worker is busy, and later if it is no longer
    /// needed.
    pub async fn next_event(self: &Rc<Self>, id: u64) -> Result<Event, oneshot::error::RecvError> {
        let (sender, receiver) = oneshot::channel();
        self.on_worker_idle(id, sender);
        receiver.await
    }

    fn on_worker_idle(self: &Rc<Self>, id: u64, sender: oneshot::Sender<Event>) {
        {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            // A killed worker gets no further event.
            let Some(worker) = state.workers.get_mut(&id).filter(|w| w.reason.is_none()) else {
                return;
            };
            let since = Instant::now();
            match worker.state {
                ProcessState::Busy { .. } | ProcessState::Ending => return,
                // A repeated request replaces the one before, which is refused.
                ProcessState::Idle { .. } => {}
                ProcessState::Starting | ProcessState::Returning { .. } => {
                    state.idle.entry(worker.memory_mb).or_default().push(id);
                }
            }
            if let ProcessState::Starting = worker.state {
                self.last_arrival.set(since);
            }
            worker.state = ProcessState::Idle { since, sender };
        }
        self.dispatch();
    }

    /// Completes the request with the worker's result. Returns false if the worker does not run this request.
    pub fn finish(&self, id: u64, request: &str, result: Result<Vec<u8>, Failure>) -> bool {
        let (done, output) = {
            let mut state = self.state.borrow_mut();
            let Some(worker) = state.workers.get_mut(&id).filter(|w| w.runs(request)) else {
                return false;
            };
            let returning = ProcessState::Returning {
                since: Instant::now(),
            };
            let ProcessState::Busy { done, limit, .. } =
                std::mem::replace(&mut worker.state, returning)
            else {
                unreachable!("only a busy worker runs a request");
            };
            limit.abort();
            (done, worker.output.clone())
        };
        // Lines that were printed before the result must reach the sink before the completion.
        output.finish();
        complete(done, result);
        true
    }

    /// Records the worker's own explanation of why it cannot start. Its process ends by itself.
    pub fn on_start_failure(&self, id: u64, failure: &Failure) {
        if let Some(worker) = self.state.borrow_mut().workers.get_mut(&id)
            && let ProcessState::Starting = worker.state
        {
            worker.reason.get_or_insert(Failure::Start {
                reason: failure.to_string(),
            });
        }
    }

    /// Removes a worker whose process has ended, and fails the invocation that it ran.
    fn on_process_end(self: &Rc<Self>, id: u64, status: io::Result<ExitStatus>) {
        let worker = {
            let mut state = self.state.borrow_mut();
            let Some(worker) = state.workers.remove(&id) else {
                return;
            };
            if let Some(idle) = state.idle.get_mut(&worker.memory_mb) {
                idle.retain(|other| *other != id);
            }
            worker
        };
        worker.output.finish();
        self.cancel_all_for(id);
        let failure = worker.failure(status);
        match worker.state {
            ProcessState::Busy { done, limit, .. } => {
                limit.abort();
                complete(done, Err(failure));
            }
            ProcessState::Starting => {
                let failure = match failure {
                    Failure::Start { .. } | Failure::Shutdown => failure,
                    other => Failure::Start {
                        reason: format!(
                            "{}: ended before its first request ({other}); its main function must begin with \
                             the worker's loop",
                            process::executable(&self.config).display(),
                        ),
                    },
                };
                self.fail_oldest(worker.memory_mb, failure);
            }
            ProcessState::Idle { .. } | ProcessState::Returning { .. } | ProcessState::Ending => {}
        }
        self.dispatch();
        if self.state.borrow().workers.is_empty() {
            self.empty.notify_one();
        }
    }

    /// Fails the oldest waiting invocation. Each process that did not start fails one invocation, so that an
    /// executable that is not a worker is not started for ever.
    pub fn fail_oldest(&self, memory_mb: MemoryMb, failure: Failure) {
        let waiting = self.state.borrow_mut().pop_waiting(memory_mb);
        if let Some(Waiting { job, .. }) = waiting {
            complete(job.done, Err(failure));
        }
    }

    pub async fn shutdown(&self) {
        let waiting: Vec<Waiting> = {
            let mut state = self.state.borrow_mut();
            state.stopping = true;
            for worker in state.workers.values_mut() {
                worker.kill(Failure::Shutdown);
            }
            state.queues.drain().flat_map(|(_, queue)| queue).collect()
        };
        for Waiting { job, .. } in waiting {
            complete(job.done, Err(Failure::Shutdown));
        }
        while !self.state.borrow().workers.is_empty() {
            self.empty.notified().await;
        }
    }
}

impl PoolState {
    /// Removes an invocation from the wait queue.
    fn remove_waiting(&mut self, id: InvocationId) -> Option<Waiting> {
        let (memory_mb, position) = self.queues.iter().find_map(|(memory_mb, queue)| {
            let position = queue.iter().position(|waiting| waiting.job.id == id)?;
            Some((*memory_mb, position))
        })?;
        let queue = self.queues.get_mut(&memory_mb)?;
        let waiting = queue.remove(position);
        if queue.is_empty() {
            self.queues.remove(&memory_mb);
        }
        waiting
    }

    /// The memory limits of waiting invocations, that of the oldest invocation first, so that none waits for ever.
    fn waiting_sizes(&self) -> Vec<MemoryMb> {
        let mut sizes: Vec<(u64, MemoryMb)> = self
            .queues
            .iter()
            .filter_map(|(memory_mb, queue)| Some((queue.front()?.order, *memory_mb)))
            .collect();
        sizes.sort_unstable();
        sizes.into_iter().map(|(_, memory_mb)| memory_mb).collect()
    }

    /// The number of workers that must be started: waiting invocations minus workers that will request one.
    fn missing_workers(&self, memory_mb: MemoryMb) -> usize {
        let waiting = self.queues.get(&memory_mb).map_or(0, VecDeque::len);
        let workers = self.workers.values();
        let available = workers.filter(|w| w.memory_mb == memory_mb && w.will_request_event());
        waiting.saturating_sub(available.count())
    }

    fn pop_waiting(&mut self, memory_mb: MemoryMb) -> Option<Waiting> {
        let queue = self.queues.get_mut(&memory_mb)?;
        let waiting = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&memory_mb);
        }
        waiting
    }

    fn has_idle_of_another_size(&self, memory_mb: MemoryMb) -> bool {
        let mut sizes = self.idle.iter();
        sizes.any(|(size, idle)| *size != memory_mb && !idle.is_empty())
    }

    fn end_idle_of_another_size(&mut self, memory_mb: MemoryMb) -> bool {
        let mut others = self.idle.iter_mut().filter(|(size, _)| **size != memory_mb);
        let Some(id) = others.find_map(|(_, idle)| idle.pop()) else {
            return false;
        };
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.end();
        }
        true
    }
}

/// Kills a worker that does not send its first request in time.
async fn enforce_start(pool: Rc<Pool>, id: u64) {
    let limit = pool.config.start_timeout;
    let started = Instant::now();
    let last = started.checked_add(limit.saturating_mul(START_TIMEOUT_FACTOR));
    loop {
        // Many workers that start at the same time are slow, not stuck: the time begins again with each of them.
        let since = started.max(pool.last_arrival.get());
        let (Some(due), Some(last)) = (since.checked_add(limit), last) else {
            return;
        };
        let due = due.min(last);
        if Instant::now() < due {
            tokio::time::sleep_until(due.into()).await;
        }
        let mut state = pool.state.borrow_mut();
        let Some(worker) = state.workers.get_mut(&id) else {
            return;
        };
        if !matches!(worker.state, ProcessState::Starting) {
            return;
        }
        if pool.last_arrival.get() <= since || Instant::now() >= last {
            return worker.kill(Failure::Start {
                reason: format!(
                    "{} sent no request within {limit:?} (start_timeout): its main function must begin with \
                     the worker's loop",
                    process::executable(&pool.config).display()
                ),
            });
        }
    }
}

/// Kills the worker if it still runs the request after `limit`.
fn kill_after(pool: &Rc<Pool>, id: u64, limit: Duration, request: String) -> AbortHandle {
    let pool = pool.clone();
    let timer = tokio::task::spawn_local(async move {
        tokio::time::sleep(limit).await;
        if let Some(worker) = pool.state.borrow_mut().workers.get_mut(&id)
            && worker.runs(&request)
        {
            worker.kill(Failure::TimeLimit { limit });
        }
    });
    timer.abort_handle()
}

/// The deadline of an invocation that starts now, in milliseconds since 1970.
fn deadline_ms(limit: Duration) -> u128 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let deadline = now.unwrap_or_default().saturating_add(limit);
    // Clients parse the header as a 64-bit number.
    deadline.as_millis().min(u128::from(u64::MAX))
}
