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

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crucial_object::{Error, Result};
use serde::de::DeserializeOwned;

use crate::Task;
use crate::runtime;
use crate::task::FunctionCall;

mod control;
pub(crate) mod current;
mod join;
mod launch;
mod many;
pub(crate) mod recorded;
mod scope;

pub use current::{Thread, current, now, random};
pub use join::JoinHandle;
pub use many::{ParallelFor, map, parallel_for};
pub use recorded::EXACTLY_ONCE_CALLS_MAX;
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
    retries: Option<u32>,
    exactly_once: bool,
    retry_delay: Duration,
    time_limit: Option<Duration>,
    memory_mb: Option<u32>,
}

/// How often an exactly-once thread is started again, where nothing else is said.
const EXACTLY_ONCE_RETRIES: u32 = 3;

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
    /// A thread that starts again makes its calls again: they are new calls, unless it is
    /// [`exactly_once`](Builder::exactly_once). What its earlier attempt held or waited for is given up first.
    pub fn retries(mut self, count: u32) -> Builder {
        self.retries = Some(count);
        self
    }

    /// However often the thread is started, each of its calls takes effect once: an attempt that follows
    /// another gets the recorded results of the calls that were made before, and goes on from there. It
    /// keeps its places in barriers and queues, and its locks.
    ///
    /// It is started again up to 3 times, unless [`retries`](Builder::retries) says otherwise.
    ///
    /// The thread must do the same each time: a call that differs from the record fails with
    /// [`Error::Diverged`], which names it. So it takes the time from [`now`] and random numbers from
    /// [`random`], makes its calls from one thread, and starts no cloud threads. What it does to the world otherwise (files, prints) it does
    /// again.
    ///
    /// A panic is no different from a crash: the calls of guards that are dropped as it unwinds are not made, so
    /// that the next attempt holds what the record says; if the thread catches the panic, they are made
    /// before its next call. What is not recorded is that an object was [`Lost`](Error::Lost), or a
    /// limit met.
    ///
    /// A call costs one message more, in the same round trip, and about 200 bytes until the thread has
    /// ended; there may be [`EXACTLY_ONCE_CALLS_MAX`] of them.
    pub fn exactly_once(mut self) -> Builder {
        self.exactly_once = true;
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
        let (packet, control) = self.launch(&name, vec![call])?;
        Ok(JoinHandle::new(name, packet, Some(control)))
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

    /// How often the thread is started again.
    fn retries_max(&self) -> u32 {
        let default = if self.exactly_once {
            EXACTLY_ONCE_RETRIES
        } else {
            0
        };
        self.retries.unwrap_or(default)
    }

    fn launch(
        &self,
        name: &str,
        calls: Vec<FunctionCall>,
    ) -> Result<(join::Packet, Arc<control::Control>)> {
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
