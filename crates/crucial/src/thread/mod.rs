//! Cloud threads: `std::thread`, on a platform.
//!
//! [`spawn`] runs a [`Task`] on the platform and returns a [`JoinHandle`], as [`std::thread::spawn`]
//! does with a closure. [`Builder`] sets a thread's name, retries and limits; [`scope`] waits for all
//! threads that it started; [`map`] runs a task for each input, and [`parallel_for`] for each part of a
//! range.
//!
//! What is different from `std`: a thread shares nothing with its parent but the [`Shared`](crate::Shared)
//! objects that it is given; it can fail for reasons of the platform, so `join` returns
//! [`crucial::Result`](crate::Result); and when `main` returns, threads that still run are killed (as in
//! `std`) and so are their processes.
//!
//! Lines that a thread prints appear on this process's terminal, with the thread's name before them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crucial_object::{Error, Result};
use serde::de::DeserializeOwned;

use crate::Task;
use crate::runtime;
use crate::task::FunctionCall;

pub(crate) mod current;
mod join;
mod launch;
mod many;
mod scope;

pub use current::{Thread, current};
pub use join::JoinHandle;
pub use many::{ParallelFor, map, parallel_for};
pub use scope::{Scope, scope};

/// Runs a task as a cloud thread.
///
/// Returns at once. If the thread can not be started (an argument that can not be encoded, no server)
/// nothing runs, and [`join`](JoinHandle::join) says why; [`Builder::spawn`] says it here.
///
/// Dropping the handle detaches the thread: it goes on for as long as this program runs.
#[doc(alias = "CloudThread")]
pub fn spawn<R: DeserializeOwned>(task: Task<R>) -> JoinHandle<R> {
    match Builder::new().start(task) {
        Ok(handle) => handle,
        Err(error) => JoinHandle::failed(error),
    }
}

/// Sets how a cloud thread runs, as [`std::thread::Builder`].
///
/// ```no_run
/// # use crucial::{cloud, thread, Result};
/// # use std::time::Duration;
/// # #[cloud] fn work(part: u32) -> u32 { part }
/// # fn main() -> Result<()> {
/// let thread = thread::Builder::new()
///     .name("part-7")
///     .retries(2)
///     .time_limit(Duration::from_secs(60))
///     .memory_mb(512)
///     .spawn(work(7))?;
/// println!("{}", thread.join()?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Builder {
    name: Option<String>,
    retries: u32,
    retry_delay: Duration,
    time_limit: Option<Duration>,
    memory_mb: Option<u32>,
}

/// A thread's longest name, in bytes.
const NAME_BYTES_MAX: usize = 256;

impl Builder {
    /// A thread with the platform's limits, no retries, and the function's name.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Names the thread. The name stands before the lines that it prints, and in errors. By default it
    /// is the function's name and a number.
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into());
        self
    }

    /// How often the thread is started again, at most, if it does not return: it panicked, its worker
    /// died, or a limit was met. A thread that returns an `Err` has returned.
    ///
    /// A thread that starts again makes its calls again: they are new calls.
    pub fn retries(mut self, count: u32) -> Builder {
        self.retries = count;
        self
    }

    /// The pause before each retry; none by default.
    pub fn retry_delay(mut self, delay: Duration) -> Builder {
        self.retry_delay = delay;
        self
    }

    /// How long the thread may run, each time that it is started.
    pub fn time_limit(mut self, limit: Duration) -> Builder {
        self.time_limit = Some(limit);
        self
    }

    /// How much memory the thread may use, in MB. (In-process threads have no such limit.)
    pub fn memory_mb(mut self, limit: u32) -> Builder {
        self.memory_mb = Some(limit);
        self
    }

    /// Runs a task as a cloud thread.
    ///
    /// # Errors
    ///
    /// If nothing can be run: [`Error::Encoding`] for arguments that can not be sent,
    /// [`Error::LimitExceeded`] for too large ones, [`Error::Config`] or [`Error::Unavailable`] if the
    /// runtime does not start.
    pub fn spawn<R: DeserializeOwned>(self, task: Task<R>) -> Result<JoinHandle<R>> {
        self.start(task)
    }

    fn start<R: DeserializeOwned>(&self, task: Task<R>) -> Result<JoinHandle<R>> {
        let call = task.call?;
        let name = self.name_for(&call)?;
        let packet = self.launch(&name, vec![call])?;
        Ok(JoinHandle::new(name, packet))
    }

    fn name_for(&self, call: &FunctionCall) -> Result<String> {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        match &self.name {
            Some(name) => check_name(name).map(|()| name.clone()),
            None => {
                let count = COUNT.fetch_add(1, Ordering::Relaxed);
                Ok(format!("{}-{count}", call.short_name()))
            }
        }
    }

    fn launch(&self, name: &str, calls: Vec<FunctionCall>) -> Result<join::Packet> {
        launch::launch(&*runtime::current()?, self, name, calls)
    }
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
        return Err(Error::Config {
            detail: format!(
                "a thread's name has 1 to {NAME_BYTES_MAX} bytes and no control characters: {name:?}"
            ),
        });
    }
    Ok(())
}
