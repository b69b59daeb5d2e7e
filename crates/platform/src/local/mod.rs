//! Worker processes on this machine, behind the Lambda Runtime API on loopback.
//!
//! One thread, with an async runtime of its own, does everything: it serves the API (`api`), gives work to
//! workers (`pool`, `stage`), starts processes (`process`, which end with the thread that started them),
//! reads what they print (`output`), and holds them to their limits (`watch`).

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, ThreadId};
use std::time::Duration;

use tokio::sync::mpsc::error::SendError;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::{
    Completion, Failure, Invocation, InvocationId, OutputSink, PAYLOAD_BYTES_MAX, Platform,
    complete, default_sink, envelope,
};

mod api;
mod output;
mod pool;
mod process;
mod stage;
mod watch;

use pool::Job;

/// Lambda's memory for one whole virtual CPU.
const MEMORY_MB_DEFAULT: u32 = 1769;

/// How worker processes are run.
#[derive(Clone)]
pub struct LocalConfig {
    /// What is run; this executable by default. It must call [`worker::run`](crate::worker::run).
    pub executable: PathBuf,
    /// Its arguments; none by default.
    pub args: Vec<OsString>,
    /// Variables added to its environment, before those of the Runtime API.
    pub env: Vec<(OsString, OsString)>,
    /// Worker processes at the same time, at least 1. Further invocations wait. 1000 by default, as on
    /// Lambda.
    pub concurrency_max: usize,
    /// A worker's memory, in MB, if the invocation says nothing; `None`: no limit. 1769 by default, with
    /// which a worker on Lambda has one whole virtual CPU.
    pub memory_mb_default: Option<u32>,
    /// An invocation's time, if it says nothing itself. 900 s by default, as on Lambda.
    pub time_limit_default: Duration,
    /// Largest payload and largest result, in bytes. 64 MiB by default.
    pub payload_bytes_max: usize,
    /// A worker that had no work for so long is ended. 300 s by default.
    pub warm_idle: Duration,
    /// A process that does not ask for work within this time is no worker: the invocation fails with
    /// [`Failure::Start`]. The time starts anew when another worker has started, so that many at once
    /// have as long as they need. 10 s by default.
    pub start_timeout: Duration,
    /// Where the lines go that workers print: by default to the same stream of this process, with the
    /// thread's name before them.
    pub output: Arc<dyn OutputSink>,
}

impl Default for LocalConfig {
    fn default() -> Self {
        LocalConfig {
            // An empty path fails when the first worker is started, with a reason.
            executable: std::env::current_exe().unwrap_or_default(),
            args: Vec::new(),
            env: Vec::new(),
            concurrency_max: 1000,
            memory_mb_default: Some(MEMORY_MB_DEFAULT),
            time_limit_default: Duration::from_secs(900),
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            warm_idle: Duration::from_secs(300),
            start_timeout: Duration::from_secs(10),
            output: default_sink(),
        }
    }
}

/// What is asked of the platform's thread.
enum Command {
    Invoke(Job),
    Cancel(InvocationId),
    Shutdown,
}

/// Runs invocations in worker processes of an executable on this machine.
///
/// A worker runs one invocation at a time, as on Lambda, and is kept warm for the next that needs as much
/// memory. Workers are started in parallel, as many as there are invocations that no worker is free or
/// starting for, up to the concurrency. They end with this process, also when it is killed, and with
/// this value.
///
/// The limits of time and memory hold as on Lambda: a worker that is over one is killed.
pub struct LocalPlatform {
    commands: UnboundedSender<Command>,
    payload_bytes_max: usize,
    memory_mb_default: Option<u32>,
    time_limit_default: Duration,
    thread_id: ThreadId,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl LocalPlatform {
    /// Starts the platform: its thread and its Runtime API. It starts no worker yet.
    ///
    /// # Errors
    ///
    /// If the operating system gives no thread or no socket.
    pub fn start(config: LocalConfig) -> io::Result<LocalPlatform> {
        process::raise_file_limit();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = api::bind()?;
        let (commands, receiver) = unbounded_channel();
        let payload_bytes_max = config.payload_bytes_max;
        let memory_mb_default = config.memory_mb_default;
        let time_limit_default = config.time_limit_default;
        let thread = std::thread::Builder::new()
            .name("crucial-platform".to_owned())
            .spawn(move || {
                let local = tokio::task::LocalSet::new();
                let served = local.block_on(&runtime, pool::serve(config, listener, receiver));
                if let Err(error) = served {
                    tracing::error!(%error, "the local platform failed");
                }
            })?;
        Ok(LocalPlatform {
            commands,
            payload_bytes_max,
            memory_mb_default,
            time_limit_default,
            thread_id: thread.thread().id(),
            thread: Mutex::new(Some(thread)),
        })
    }
}

impl Platform for LocalPlatform {
    fn invoke(&self, invocation: Invocation, done: Completion) {
        if invocation.payload.len() > self.payload_bytes_max {
            let failure = Failure::PayloadTooLarge {
                size: invocation.payload.len(),
                max: self.payload_bytes_max,
            };
            return complete(done, Err(failure));
        }
        let job = Job {
            // Here and not on the platform's thread, which all invocations share.
            event: envelope::wrap(&invocation.payload),
            id: invocation.id,
            name: invocation.name,
            memory_mb: invocation.memory_mb.or(self.memory_mb_default),
            limit: invocation.time_limit.unwrap_or(self.time_limit_default),
            done,
        };
        let sent = self.commands.send(Command::Invoke(job));
        if let Err(SendError(Command::Invoke(job))) = sent {
            complete(job.done, Err(Failure::Shutdown));
        }
    }

    fn cancel(&self, id: InvocationId) {
        // It fails after the shutdown, which has ended all.
        let _ = self.commands.send(Command::Cancel(id));
    }

    fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max
    }

    fn shutdown(&self) {
        // It fails if the thread has ended, which is as good.
        let _ = self.commands.send(Command::Shutdown);
        // A completion may call this on the platform's own thread, which ends by itself then.
        if self.thread_id == std::thread::current().id() {
            return;
        }
        // A second caller waits here for the first.
        let mut thread = self.thread.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(thread) = thread.take() {
            // It fails if the thread panicked, which has been printed.
            let _ = thread.join();
        }
    }
}

impl Drop for LocalPlatform {
    fn drop(&mut self) {
        self.shutdown();
    }
}
