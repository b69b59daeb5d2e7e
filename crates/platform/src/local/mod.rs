//! Worker processes on this machine, behind the Lambda Runtime API on loopback.
//!
//! A single thread with its own async runtime does everything. It runs the main loop (`serve`), serves the API (`api`),
//! assigns invocations to workers (`pool`, `process_state`), takes invocations from workers (`from_workers`, `outcomes`), starts
//! processes (`process`, which end with the thread that started them), reads their output (`output`), and checks their
//! limits (`limits`).

use std::io;
use std::sync::Mutex;
use std::thread::{JoinHandle, ThreadId};
use std::time::Duration;

use tokio::sync::mpsc::error::SendError;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::envelope;
use crate::platform::{Completion, Failure, Invocation, InvocationId, Platform, complete};

mod api;
mod config;
mod from_workers;
mod limits;
mod outcomes;
mod output;
mod pool;
mod process;
mod process_state;
mod serve;

pub use config::LocalConfig;
use pool::Job;
use serve::Command;

/// Runs invocations in worker processes of an executable on this machine.
///
/// A worker runs one invocation at a time, as on Lambda, and is kept warm for the next invocation with the same
/// memory limit. For each waiting invocation without an idle or starting worker a new worker is started, up to
/// `concurrency_max`. Workers end with this process, even if it is killed, and when this value is dropped.
///
/// Limits of time and memory are enforced as on Lambda: a worker that exceeds one is killed.
pub struct LocalPlatform {
    commands: UnboundedSender<Command>,
    payload_bytes_max: usize,
    memory_mb_default: Option<u32>,
    time_limit_default: Duration,
    thread_id: ThreadId,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl LocalPlatform {
    /// Starts the platform: its thread and its Runtime API. Workers are started when they are needed.
    ///
    /// # Errors
    ///
    /// If the operating system gives no thread or no socket, or allows too few open files for a single worker.
    pub fn start(config: LocalConfig) -> io::Result<LocalPlatform> {
        crucial_local::files::raise_limit();
        let room = process::room_by_files()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = api::bind()?;
        let (commands, receiver) = unbounded_channel();
        let payload_bytes_max = config.payload_bytes_max;
        let memory_mb_default = config.memory_mb_default;
        let time_limit_default = config.time_limit_default;
        let thread = crucial_local::thread::start("crucial-platform", move || {
            let local = tokio::task::LocalSet::new();
            let served = local.block_on(&runtime, serve::serve(config, room, listener, receiver));
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
            // Encoded here to relieve the platform's thread, which all invocations share.
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
        // Sending fails only after the shutdown, which has ended all invocations.
        let _ = self.commands.send(Command::Cancel(id));
    }

    fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max
    }

    fn shutdown(&self) {
        // Sending fails only if the thread has ended already.
        let _ = self.commands.send(Command::Shutdown);
        // A completion may call this function on the platform's own thread, which cannot join itself and ends
        // after the command.
        if self.thread_id == std::thread::current().id() {
            return;
        }
        // A second caller waits here for the first.
        let mut thread = self.thread.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(thread) = thread.take() {
            // Joining fails if the thread panicked; the panic has been printed.
            let _ = thread.join();
        }
    }
}

impl Drop for LocalPlatform {
    fn drop(&mut self) {
        self.shutdown();
    }
}
