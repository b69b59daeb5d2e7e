//! The pool of workers: who runs what, who waits, who is started and who is ended.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::TcpListener;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Pid;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use super::output::Output;
use super::{Command, LocalConfig, api, process};
use crate::{Completion, Failure, Invocation, envelope};

/// How often the memory of busy workers is looked at.
const MEMORY_LOOK: Duration = Duration::from_millis(100);

/// How often the pool looks for workers that were idle for too long.
const IDLE_LOOK: Duration = Duration::from_secs(1);

/// An event for a worker.
pub(super) struct Work {
    pub request_id: String,
    pub deadline_ms: u64,
    pub event: Vec<u8>,
}

pub(super) struct Pool {
    config: LocalConfig,
    /// `HOST:PORT` of the Runtime API.
    api: String,
    state: RefCell<State>,
    /// The last worker has gone.
    empty: Notify,
    /// A worker is busy.
    busy: Notify,
}

#[derive(Default)]
struct State {
    /// Invocations that no worker has yet, by the memory that they need.
    queues: HashMap<Option<u32>, VecDeque<Job>>,
    workers: HashMap<u64, Worker>,
    /// Workers that wait for work, the one that waited shortest last.
    idle: HashMap<Option<u32>, Vec<u64>>,
    last_worker: u64,
    last_request: u64,
    stopping: bool,
}

struct Job {
    invocation: Invocation,
    done: Completion,
}

struct Worker {
    token: String,
    pid: Pid,
    memory_mb: Option<u32>,
    output: Rc<Output>,
    state: Stage,
    /// Why the platform killed it.
    killed: Option<Failure>,
}

enum Stage {
    Starting,
    Idle {
        since: Instant,
        give: oneshot::Sender<Work>,
    },
    Busy {
        request_id: String,
        done: Completion,
        limit: AbortHandle,
    },
    /// Between a result and the next request for work.
    Resting,
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
        empty: Notify::new(),
        busy: Notify::new(),
    });
    let listening = tokio::task::spawn_local(api::listen(pool.clone(), listener));
    let watching = tokio::task::spawn_local(watch_memory(pool.clone()));
    let tidying = tokio::task::spawn_local(end_idle(pool.clone()));
    while let Some(command) = commands.recv().await {
        match command {
            Command::Invoke(invocation, done) => pool.invoke(Job { invocation, done }),
            Command::Shutdown => break,
        }
    }
    commands.close();
    while let Some(command) = commands.recv().await {
        if let Command::Invoke(_, done) = command {
            done(Err(Failure::Shutdown));
        }
    }
    pool.shutdown().await;
    for task in [watching, tidying] {
        task.abort();
    }
    listening.abort();
    Ok(())
}

impl Pool {
    fn invoke(self: &Rc<Self>, job: Job) {
        let memory_mb = job.invocation.memory_mb.or(self.config.memory_mb_default);
        let mut state = self.state.borrow_mut();
        state.queues.entry(memory_mb).or_default().push_back(job);
        drop(state);
        self.dispatch(memory_mb);
    }

    /// Gives invocations of a memory size to idle workers, and starts workers for the others.
    fn dispatch(self: &Rc<Self>, memory_mb: Option<u32>) {
        while self.give_one(memory_mb) {}
        while self.needs_worker(memory_mb) {
            if let Err(error) = self.start_worker(memory_mb) {
                let reason = format!("{}: {error}", self.config.executable.display());
                self.fail_one(memory_mb, Failure::Start { reason });
            }
        }
    }

    /// Gives the oldest invocation to an idle worker; false if there is none of either.
    fn give_one(self: &Rc<Self>, memory_mb: Option<u32>) -> bool {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let Some(queue) = state.queues.get_mut(&memory_mb).filter(|q| !q.is_empty()) else {
            return false;
        };
        let Some(id) = state.idle.get_mut(&memory_mb).and_then(Vec::pop) else {
            return false;
        };
        let Some(worker) = state.workers.get_mut(&id) else {
            return true;
        };
        let Stage::Idle { give, .. } = std::mem::replace(&mut worker.state, Stage::Resting) else {
            return true;
        };
        let Some(Job { invocation, done }) = queue.pop_front() else {
            return false;
        };
        state.last_request += 1;
        let request_id = format!("{id}-{}", state.last_request);
        let limit = invocation
            .time_limit
            .unwrap_or(self.config.time_limit_default);
        worker.output.begin(&invocation.name);
        worker.state = Stage::Busy {
            request_id: request_id.clone(),
            done,
            limit: self.kill_after(id, limit, request_id.clone()),
        };
        let deadline = SystemTime::now() + limit;
        let deadline_ms = deadline
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64);
        // It fails if the worker's connection has just broken: then its process ends, and says so.
        let _ = give.send(Work {
            request_id,
            deadline_ms,
            event: envelope::wrap(&invocation.payload),
        });
        self.busy.notify_one();
        true
    }

    /// Whether an invocation waits that no worker is starting for, and there is room for one more.
    fn needs_worker(&self, memory_mb: Option<u32>) -> bool {
        let state = self.state.borrow();
        let waiting = state.queues.get(&memory_mb).map_or(0, VecDeque::len);
        let coming = state
            .workers
            .values()
            .filter(|w| w.memory_mb == memory_mb)
            .filter(|w| matches!(w.state, Stage::Starting | Stage::Resting))
            .count();
        if waiting <= coming || state.stopping {
            return false;
        }
        if state.workers.len() < self.config.concurrency_max {
            return true;
        }
        // An idle worker of another size makes room; this is called again when it has gone.
        let other = state.workers.values().find(|w| {
            w.memory_mb != memory_mb && matches!(w.state, Stage::Idle { .. }) && w.killed.is_none()
        });
        if let Some(other) = other {
            process::kill(other.pid);
        }
        false
    }

    fn start_worker(self: &Rc<Self>, memory_mb: Option<u32>) -> io::Result<()> {
        let id = self.state.borrow().last_worker + 1;
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
        let output = Output::new(stdout, stderr, name, self.config.output.clone())?;
        let worker = Worker {
            token,
            pid,
            memory_mb,
            output,
            state: Stage::Starting,
            killed: None,
        };
        let mut state = self.state.borrow_mut();
        state.last_worker = id;
        state.workers.insert(id, worker);
        drop(state);

        let pool = self.clone();
        tokio::task::spawn_local(async move {
            let status = child.wait().await;
            pool.ended(id, status);
        });
        let pool = self.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(pool.config.start_timeout).await;
            pool.kill_if_starting(id);
        });
        Ok(())
    }

    fn kill_if_starting(&self, id: u64) {
        let limit = self.config.start_timeout;
        if let Some(worker) = self.state.borrow_mut().workers.get_mut(&id)
            && let Stage::Starting = worker.state
        {
            worker.kill(Failure::Start {
                reason: format!("the process did not ask for work within {limit:?}"),
            });
        }
    }

    fn kill_after(self: &Rc<Self>, id: u64, limit: Duration, request: String) -> AbortHandle {
        let pool = self.clone();
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

    /// Whether the token is that of the worker.
    pub fn is_worker(&self, id: u64, token: &str) -> bool {
        let state = self.state.borrow();
        state.workers.get(&id).is_some_and(|worker| worker.token == token)
    }

    /// The worker asks for work.
    pub async fn next(self: &Rc<Self>, id: u64) -> Result<Work, oneshot::error::RecvError> {
        let (give, take) = oneshot::channel();
        let memory_mb = {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            let Some(worker) = state.workers.get_mut(&id) else {
                drop(give);
                return take.await;
            };
            worker.state = Stage::Idle {
                since: Instant::now(),
                give,
            };
            state.idle.entry(worker.memory_mb).or_default().push(id);
            worker.memory_mb
        };
        self.dispatch(memory_mb);
        take.await
    }

    /// The worker gives a result; false if that is not what it runs.
    pub fn finish(&self, id: u64, request: &str, result: Result<Vec<u8>, Failure>) -> bool {
        let (done, output) = {
            let mut state = self.state.borrow_mut();
            let Some(worker) = state.workers.get_mut(&id).filter(|w| w.runs(request)) else {
                return false;
            };
            let stage = std::mem::replace(&mut worker.state, Stage::Resting);
            let Stage::Busy { done, limit, .. } = stage else {
                return false;
            };
            limit.abort();
            (done, worker.output.clone())
        };
        // What it printed before comes before.
        output.finish();
        done(result);
        true
    }

    /// The worker's process has ended.
    fn ended(self: &Rc<Self>, id: u64, status: io::Result<ExitStatus>) {
        let Some(worker) = self.state.borrow_mut().workers.remove(&id) else {
            return;
        };
        let memory_mb = worker.memory_mb;
        if let Some(idle) = self.state.borrow_mut().idle.get_mut(&memory_mb) {
            idle.retain(|other| *other != id);
        }
        worker.output.finish();
        let failure = worker.failure(status);
        match worker.state {
            Stage::Busy { done, limit, .. } => {
                limit.abort();
                done(Err(failure));
            }
            Stage::Starting => {
                let reason = match failure {
                    Failure::Start { reason } => reason,
                    other => format!(
                        "{}: {other} before it asked for work; it must call crucial's main \
                         (#[crucial::main]). It printed: {:?}",
                        self.config.executable.display(),
                        worker.output.last_lines()
                    ),
                };
                self.fail_one(memory_mb, Failure::Start { reason });
            }
            Stage::Idle { .. } | Stage::Resting => {}
        }
        let waiting: Vec<_> = self.state.borrow().queues.keys().copied().collect();
        for memory_mb in waiting {
            self.dispatch(memory_mb);
        }
        if self.state.borrow().workers.is_empty() {
            self.empty.notify_one();
        }
    }

    /// Fails the oldest waiting invocation.
    fn fail_one(&self, memory_mb: Option<u32>, failure: Failure) {
        let job = {
            let mut state = self.state.borrow_mut();
            state.queues.get_mut(&memory_mb).and_then(VecDeque::pop_front)
        };
        if let Some(job) = job {
            (job.done)(Err(failure));
        }
    }

    async fn shutdown(&self) {
        let jobs: Vec<Job> = {
            let mut state = self.state.borrow_mut();
            state.stopping = true;
            for worker in state.workers.values_mut() {
                worker.kill(Failure::Shutdown);
            }
            state.queues.drain().flat_map(|(_, queue)| queue).collect()
        };
        for job in jobs {
            (job.done)(Err(Failure::Shutdown));
        }
        while !self.state.borrow().workers.is_empty() {
            self.empty.notified().await;
        }
    }
}

impl Worker {
    fn runs(&self, request: &str) -> bool {
        matches!(&self.state, Stage::Busy { request_id, .. } if request_id == request)
    }

    /// Kills it, for the first reason that is given.
    fn kill(&mut self, reason: Failure) {
        self.killed.get_or_insert(reason);
        process::kill(self.pid);
    }

    /// Why its process ended.
    fn failure(&self, status: io::Result<ExitStatus>) -> Failure {
        if let Some(reason) = &self.killed {
            return reason.clone();
        }
        let output = self.output.last_lines();
        let reason = match status {
            Ok(status) => process::describe(status),
            Err(error) => error.to_string(),
        };
        match self.memory_mb {
            Some(limit_mb) if self.output.is_starved() => Failure::MemoryLimit { limit_mb },
            _ => Failure::WorkerDied { reason, output },
        }
    }
}

/// Kills busy workers that are over their memory. (Their own limit holds for what they allocate; this
/// holds for all that is resident.)
async fn watch_memory(pool: Rc<Pool>) {
    loop {
        pool.busy.notified().await;
        loop {
            tokio::time::sleep(MEMORY_LOOK).await;
            let mut busy = false;
            for worker in pool.state.borrow_mut().workers.values_mut() {
                let (Stage::Busy { .. }, Some(limit_mb)) = (&worker.state, worker.memory_mb) else {
                    continue;
                };
                busy = true;
                let resident = process::resident_bytes(worker.pid).unwrap_or(0);
                if resident > u64::from(limit_mb) << 20 {
                    worker.kill(Failure::MemoryLimit { limit_mb });
                }
            }
            if !busy {
                break;
            }
        }
    }
}

/// Ends workers that had no work for too long.
async fn end_idle(pool: Rc<Pool>) {
    loop {
        tokio::time::sleep(IDLE_LOOK).await;
        for worker in pool.state.borrow_mut().workers.values_mut() {
            if let Stage::Idle { since, .. } = worker.state
                && since.elapsed() > pool.config.warm_idle
            {
                process::kill(worker.pid);
            }
        }
    }
}
