//! The pool of workers: who runs what, who waits, and who is started.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::TcpListener;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Notify, oneshot};

use super::output::Output;
use super::stage::{Stage, Work, Worker};
use super::{Command, LocalConfig, api, process, watch};
use crate::{Completion, Failure, InvocationId, complete};

/// Workers of a memory size are for invocations of the same.
type MemoryMb = Option<u32>;

pub(super) struct Pool {
    pub config: LocalConfig,
    /// `HOST:PORT` of the Runtime API.
    api: String,
    pub state: RefCell<State>,
    /// When a worker last asked for its first work.
    pub last_arrival: Cell<Instant>,
    /// More workers may be needed.
    wanted: Notify,
    /// A worker is busy.
    pub busy: Notify,
    /// The last worker has gone.
    empty: Notify,
}

#[derive(Default)]
pub(super) struct State {
    /// Invocations that no worker has yet. No queue is empty.
    queues: HashMap<MemoryMb, VecDeque<Waiting>>,
    pub workers: HashMap<u64, Worker>,
    /// Workers that wait for work, the one that waited shortest last.
    pub idle: HashMap<MemoryMb, Vec<u64>>,
    last_worker: u64,
    last_order: u64,
    stopping: bool,
}

/// An invocation, its payload wrapped.
pub(super) struct Job {
    pub id: InvocationId,
    pub name: String,
    pub event: Vec<u8>,
    pub memory_mb: MemoryMb,
    pub limit: Duration,
    pub done: Completion,
}

struct Waiting {
    /// Its place in the order of arrival.
    order: u64,
    job: Job,
}

/// Serves until it is told to end.
pub(super) async fn serve(
    config: LocalConfig,
    listener: TcpListener,
    mut commands: UnboundedReceiver<Command>,
) -> io::Result<()> {
    let pool = Rc::new(Pool {
        api: listener.local_addr()?.to_string(),
        config,
        state: RefCell::default(),
        last_arrival: Cell::new(Instant::now()),
        wanted: Notify::new(),
        busy: Notify::new(),
        empty: Notify::new(),
    });
    let tasks = [
        tokio::task::spawn_local(api::listen(pool.clone(), listener)),
        tokio::task::spawn_local(watch::memory(pool.clone())),
        tokio::task::spawn_local(watch::idleness(pool.clone())),
        tokio::task::spawn_local(start_workers(pool.clone())),
    ];
    while let Some(command) = commands.recv().await {
        match command {
            Command::Invoke(job) => pool.invoke(job),
            Command::Cancel(id) => pool.cancel(id),
            Command::Shutdown => break,
        }
    }
    commands.close();
    while let Some(command) = commands.recv().await {
        if let Command::Invoke(job) = command {
            complete(job.done, Err(Failure::Shutdown));
        }
    }
    pool.shutdown().await;
    for task in tasks {
        task.abort();
    }
    Ok(())
}

/// Starts workers when they are needed: one at a time, so that those before are served meanwhile.
async fn start_workers(pool: Rc<Pool>) {
    loop {
        pool.wanted.notified().await;
        while let Some(memory_mb) = pool.needed_worker() {
            if let Err(error) = pool.start_worker(memory_mb) {
                pool.fail_one(memory_mb, process::start_failure(&pool.config, &error));
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Pool {
    fn invoke(self: &Rc<Self>, job: Job) {
        {
            let mut state = self.state.borrow_mut();
            state.last_order += 1;
            let order = state.last_order;
            let queue = state.queues.entry(job.memory_mb).or_default();
            queue.push_back(Waiting { order, job });
        }
        self.dispatch();
    }

    /// Ends an invocation that waits or runs.
    fn cancel(&self, id: InvocationId) {
        let waiting = {
            let mut state = self.state.borrow_mut();
            let mut workers = state.workers.values_mut();
            let runs = |worker: &&mut Worker| matches!(&worker.stage, Stage::Busy { id: busy, .. } if *busy == id);
            if let Some(worker) = workers.find(runs) {
                return worker.kill(Failure::Cancelled);
            }
            state.remove_waiting(id)
        };
        if let Some(Waiting { job, .. }) = waiting {
            complete(job.done, Err(Failure::Cancelled));
        }
    }

    /// Gives the invocations that wait to idle workers, and has workers started for the others.
    fn dispatch(self: &Rc<Self>) {
        let sizes = self.state.borrow().waiting_sizes();
        for memory_mb in sizes {
            while self.give_one(memory_mb) {}
            // Before the idle workers get younger invocations.
            self.make_room(memory_mb);
        }
        if !self.state.borrow().queues.is_empty() {
            self.wanted.notify_one();
        }
    }

    /// Gives the oldest invocation to an idle worker; false if there is none of either.
    fn give_one(self: &Rc<Self>, memory_mb: MemoryMb) -> bool {
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
            .expect("idle workers are workers");
        let resting = Stage::Resting {
            since: Instant::now(),
        };
        let Stage::Idle { give, .. } = std::mem::replace(&mut worker.stage, resting) else {
            unreachable!("only idle workers are among the idle");
        };
        if give.is_closed() || process::has_ended(worker.pid) {
            // It has just died, or its connection broke, so that it can not be told. The invocation waits for
            // another, as nothing of it ran.
            worker.end();
            return true;
        }
        let order = state.last_order + 1;
        state.last_order = order;
        let Some(Waiting { job, .. }) = state.pop_waiting(memory_mb) else {
            unreachable!("no queue is empty");
        };
        let request_id = format!("{id}-{order}");
        let worker = state.workers.get_mut(&id).expect("it was there before");
        worker.output.begin(&job.name);
        worker.stage = Stage::Busy {
            id: job.id,
            request_id: request_id.clone(),
            done: job.done,
            limit: watch::kill_after(self, id, job.limit, request_id.clone()),
        };
        // It can not fail: nothing else ran since the channel was seen open.
        let _ = give.send(Work {
            request_id,
            deadline_ms: deadline_ms(job.limit),
            event: job.event,
        });
        self.busy.notify_one();
        true
    }

    /// The memory of the next worker to start, if there is room for one.
    fn needed_worker(&self) -> Option<MemoryMb> {
        let state = self.state.borrow();
        if state.stopping || state.workers.len() >= self.concurrency_max() {
            return None;
        }
        let mut sizes = state.waiting_sizes().into_iter();
        sizes.find(|memory_mb| state.uncovered(*memory_mb) > 0)
    }

    /// Where there is no room for the workers that are missing, ends idle ones of other sizes. It goes on
    /// when they have gone.
    fn make_room(&self, memory_mb: MemoryMb) {
        let mut state = self.state.borrow_mut();
        if state.workers.len() < self.concurrency_max()
            || !state.has_idle_of_another_size(memory_mb)
        {
            return;
        }
        let workers = state.workers.values();
        let ending = workers.filter(|w| matches!(w.stage, Stage::Ending)).count();
        for _ in ending..state.uncovered(memory_mb) {
            if !state.end_idle_of_another_size(memory_mb) {
                break;
            }
        }
    }

    fn concurrency_max(&self) -> usize {
        self.config.concurrency_max.max(1)
    }

    fn start_worker(self: &Rc<Self>, memory_mb: MemoryMb) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        let id = state.last_worker + 1;
        state.last_worker = id;
        let mut token = [0; 16];
        getrandom::fill(&mut token).map_err(io::Error::other)?;
        let token: String = token.iter().map(|byte| format!("{byte:02x}")).collect();
        let api = format!("{}/{id}/{token}", self.api);
        let process::Started {
            mut child,
            pid,
            stdout,
            stderr,
        } = process::start(&self.config, &api, memory_mb)?;
        let name = format!("worker {}", pid.as_raw_nonzero());
        let output = Output::new(stdout, stderr, name, self.config.output.clone());
        let worker = Worker {
            token,
            pid,
            memory_mb,
            output: output.inspect_err(|_| process::kill(pid))?,
            stage: Stage::Starting,
            reason: None,
        };
        state.workers.insert(id, worker);
        drop(state);

        let pool = self.clone();
        tokio::task::spawn_local(async move {
            let status = child.wait().await;
            pool.ended(id, status);
        });
        tokio::task::spawn_local(watch::start(self.clone(), id));
        Ok(())
    }

    /// Whether the token is that of the worker.
    pub fn is_worker(&self, id: u64, token: &str) -> bool {
        let state = self.state.borrow();
        state
            .workers
            .get(&id)
            .is_some_and(|worker| worker.token == token)
    }

    /// The worker asks for work. Gives an error at once if it has some already, and later if it is not
    /// needed any more.
    pub async fn next(self: &Rc<Self>, id: u64) -> Result<Work, oneshot::error::RecvError> {
        let (give, take) = oneshot::channel();
        self.wants_work(id, give);
        take.await
    }

    fn wants_work(self: &Rc<Self>, id: u64, give: oneshot::Sender<Work>) {
        {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            // One that was killed gets nothing more.
            let Some(worker) = state.workers.get_mut(&id).filter(|w| w.reason.is_none()) else {
                return;
            };
            let since = Instant::now();
            match worker.stage {
                Stage::Busy { .. } | Stage::Ending => return,
                // It asks again: the request before is refused.
                Stage::Idle { .. } => {}
                Stage::Starting | Stage::Resting { .. } => {
                    state.idle.entry(worker.memory_mb).or_default().push(id);
                }
            }
            if let Stage::Starting = worker.stage {
                self.last_arrival.set(since);
            }
            worker.stage = Stage::Idle { since, give };
        }
        self.dispatch();
    }

    /// The worker gives a result; false if that is not what it runs.
    pub fn finish(&self, id: u64, request: &str, result: Result<Vec<u8>, Failure>) -> bool {
        let (done, output) = {
            let mut state = self.state.borrow_mut();
            let Some(worker) = state.workers.get_mut(&id).filter(|w| w.runs(request)) else {
                return false;
            };
            let resting = Stage::Resting {
                since: Instant::now(),
            };
            let Stage::Busy { done, limit, .. } = std::mem::replace(&mut worker.stage, resting)
            else {
                unreachable!("only a busy worker runs a request");
            };
            limit.abort();
            (done, worker.output.clone())
        };
        // What it printed before comes before.
        output.finish();
        complete(done, result);
        true
    }

    /// The worker says why it can not start; it ends by itself.
    pub fn can_not_start(&self, id: u64, failure: &Failure) {
        if let Some(worker) = self.state.borrow_mut().workers.get_mut(&id)
            && let Stage::Starting = worker.stage
        {
            worker.reason.get_or_insert(Failure::Start {
                reason: failure.to_string(),
            });
        }
    }

    /// The worker's process has ended.
    fn ended(self: &Rc<Self>, id: u64, status: io::Result<ExitStatus>) {
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
        let failure = worker.failure(status);
        match worker.stage {
            Stage::Busy { done, limit, .. } => {
                limit.abort();
                complete(done, Err(failure));
            }
            Stage::Starting => {
                let failure = match failure {
                    Failure::Start { .. } | Failure::Shutdown => failure,
                    other => Failure::Start {
                        reason: format!(
                            "{}: before it asked for work, {other}; its main function must begin with the \
                             worker's loop",
                            self.config.executable.display(),
                        ),
                    },
                };
                self.fail_one(worker.memory_mb, failure);
            }
            Stage::Idle { .. } | Stage::Resting { .. } | Stage::Ending => {}
        }
        self.dispatch();
        if self.state.borrow().workers.is_empty() {
            self.empty.notify_one();
        }
    }

    /// Fails the oldest waiting invocation: there is one error for each process that did not start, so that
    /// an executable that is no worker is not started for ever.
    fn fail_one(&self, memory_mb: MemoryMb, failure: Failure) {
        let waiting = self.state.borrow_mut().pop_waiting(memory_mb);
        if let Some(Waiting { job, .. }) = waiting {
            complete(job.done, Err(failure));
        }
    }

    async fn shutdown(&self) {
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

impl State {
    /// Takes an invocation out of the line.
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

    /// The memory sizes that invocations wait for, that of the oldest first: so none waits for ever.
    fn waiting_sizes(&self) -> Vec<MemoryMb> {
        let mut sizes: Vec<(u64, MemoryMb)> = self
            .queues
            .iter()
            .filter_map(|(memory_mb, queue)| Some((queue.front()?.order, *memory_mb)))
            .collect();
        sizes.sort_unstable();
        sizes.into_iter().map(|(_, memory_mb)| memory_mb).collect()
    }

    /// How many invocations wait that no worker is coming for.
    fn uncovered(&self, memory_mb: MemoryMb) -> usize {
        let waiting = self.queues.get(&memory_mb).map_or(0, VecDeque::len);
        let workers = self.workers.values();
        let coming = workers.filter(|w| w.memory_mb == memory_mb && w.is_coming());
        waiting.saturating_sub(coming.count())
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

/// When an invocation has to be ready, in milliseconds since 1970.
fn deadline_ms(limit: Duration) -> u128 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let deadline = now.unwrap_or_default().saturating_add(limit);
    // Clients read it as a 64-bit number.
    deadline.as_millis().min(u128::from(u64::MAX))
}
