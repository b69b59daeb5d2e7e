//! Worker processes on this machine, behind the Lambda Runtime API on loopback.
//!
//! One thread, with an async runtime of its own, does everything: it starts processes, serves the API
//! (`api`), reads what workers print (`output`), and holds workers to their limits (`pool`).

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::{
    Completion, Failure, Invocation, OutputSink, PAYLOAD_BYTES_MAX, Platform, default_sink,
};

mod api;
mod output;
mod pool;
mod process;

/// How worker processes are run.
#[derive(Clone)]
pub struct LocalConfig {
    /// What is run; this executable by default. It must call [`worker::run`](crate::worker::run).
    pub executable: PathBuf,
    /// Its arguments; none by default.
    pub args: Vec<OsString>,
    /// Variables added to its environment.
    pub env: HashMap<OsString, OsString>,
    /// Worker processes at the same time. Further invocations wait. 1000 by default, as on Lambda.
    pub concurrency_max: usize,
    /// A worker's memory, in MB, if the invocation says nothing; `None`: no limit.
    pub memory_mb_default: Option<u32>,
    /// An invocation's time, if it says nothing itself. 900 s by default, as on Lambda.
    pub time_limit_default: Duration,
    /// A worker that had no work for so long is ended. 300 s by default.
    pub warm_idle: Duration,
    /// A process that did not ask for work within this time is no worker. 10 s by default.
    pub start_timeout: Duration,
    /// Where the lines go that workers print.
    pub output: Arc<dyn OutputSink>,
}

impl Default for LocalConfig {
    fn default() -> Self {
        LocalConfig {
            executable: std::env::current_exe().unwrap_or_default(),
            args: Vec::new(),
            env: HashMap::new(),
            concurrency_max: 1000,
            memory_mb_default: None,
            time_limit_default: Duration::from_secs(900),
            warm_idle: Duration::from_secs(300),
            start_timeout: Duration::from_secs(10),
            output: default_sink(),
        }
    }
}

/// What is asked of the platform's thread.
enum Command {
    Invoke(Invocation, Completion),
    Shutdown,
}

/// Runs invocations in worker processes of an executable on this machine.
///
/// A worker runs one invocation at a time, as on Lambda, and is kept warm for the next. Workers are
/// started in parallel, as many as there are invocations that no worker is free or starting for, up to
/// the concurrency. They end with this process, also when it is killed.
pub struct LocalPlatform {
    commands: UnboundedSender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl LocalPlatform {
    /// Starts the platform. It starts no worker yet.
    pub fn start(config: LocalConfig) -> io::Result<LocalPlatform> {
        process::raise_file_limit();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let (commands, receiver) = unbounded_channel();
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
            thread: Mutex::new(Some(thread)),
        })
    }
}

impl Platform for LocalPlatform {
    fn invoke(&self, invocation: Invocation, done: Completion) {
        if invocation.payload.len() > PAYLOAD_BYTES_MAX {
            return done(Err(Failure::PayloadTooLarge {
                size: invocation.payload.len(),
                max: PAYLOAD_BYTES_MAX,
            }));
        }
        let sent = self.commands.send(Command::Invoke(invocation, done));
        if let Err(tokio::sync::mpsc::error::SendError(Command::Invoke(_, done))) = sent {
            done(Err(Failure::Shutdown));
        }
    }

    fn payload_bytes_max(&self) -> usize {
        PAYLOAD_BYTES_MAX
    }

    fn shutdown(&self) {
        // It fails if the thread has ended, which is as good.
        let _ = self.commands.send(Command::Shutdown);
        let thread = self.thread.lock().unwrap_or_else(|e| e.into_inner()).take();
        if let Some(thread) = thread {
            // A completion may call this on the platform's own thread, which ends by itself then.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for LocalPlatform {
    fn drop(&mut self) {
        self.shutdown();
    }
}
