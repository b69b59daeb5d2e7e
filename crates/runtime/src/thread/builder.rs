//! Starting one cloud thread.

use std::ffi::OsString;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crucial_local::Surroundings;
use crucial_object::{Error, Result};
use serde::de::DeserializeOwned;

use super::join::JoinHandle;
use super::launch::launch;
use super::settings::Settings;
use crate::config::PlatformKind;
use crate::runtime::{self, Runtime};
use crate::task::{Batch, FunctionCall, IntoTask, Task};

/// A thread's longest name, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// Runs a task as a cloud thread.
///
/// The task is a call of a `#[cloud]` function, or a closure that makes one (`move || work(x)`), as in `std`: the closure is
/// called at once, and what waits in it fails.
///
/// Returns at once. If the thread cannot be started (an argument that cannot be encoded, no server), nothing runs, and
/// [`join`](JoinHandle::join) returns the reason; [`Builder::spawn`] returns the reason at once.
///
/// Dropping the handle detaches the thread: the thread runs on for as long as this program runs.
#[doc(alias = "CloudThread")]
pub fn spawn<R: DeserializeOwned>(task: impl IntoTask<Output = R>) -> JoinHandle<R> {
    match Builder::new().start(task.into_task()) {
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
    pub(super) name: Option<String>,
    pub(super) lets_others_finish: bool,
    pub(super) settings: Settings,
}

impl Builder {
    /// A thread with the platform's limits, no retries, and the function's name.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Names the thread. The name is printed before the thread's lines, and errors have the name. The default is the
    /// function's name and a number.
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into());
        self
    }

    /// Of the threads of a [`map`](super::map) or a parallel `for`: one that fails does not cancel the others, and its error is
    /// returned when all have ended.
    pub fn let_others_finish(mut self) -> Builder {
        self.lets_others_finish = true;
        self
    }

    /// How often the thread is started again, at most, if it does not return: the thread panicked, its worker died, or
    /// it exceeded a limit. A thread that returns an `Err` has returned.
    ///
    /// A retried thread makes its calls again. They are new calls, unless the thread is
    /// [`exactly_once`](Builder::exactly_once). Before a retry, the server releases what the attempt before held or
    /// waited for.
    pub fn retries(mut self, count: u32) -> Builder {
        self.settings.retries = Some(count);
        self
    }

    /// Makes each call of the thread take effect once, however often the thread is started: a later attempt gets the
    /// recorded results of the calls that were made before, and continues from there. The thread keeps its places in
    /// barriers and queues, and its locks.
    ///
    /// The thread is retried up to 3 times, unless [`retries`](Builder::retries) says otherwise.
    ///
    /// The thread must do the same in each attempt: a call that differs from the record fails with
    /// [`Error::Diverged`], which names the call. Therefore such a thread takes the time from
    /// [`now`](super::now) and random numbers from [`random`](super::random), makes its calls from one thread, and
    /// starts no cloud threads. Other effects on the world (files, prints) are repeated.
    ///
    /// A panic is no different from a crash: the calls of guards that are dropped during unwinding are not made, so
    /// that the next attempt holds what the record says; if the thread catches the panic, these calls are made before
    /// its next call. An object that was [`Lost`](Error::Lost) and an exceeded limit are not recorded.
    ///
    /// A call costs one message more, in the same round trip where one server is alone and in one more in a cluster, and about 200 bytes until the thread has ended; a thread
    /// can make [`EXACTLY_ONCE_CALLS_MAX`](super::EXACTLY_ONCE_CALLS_MAX) calls.
    pub fn exactly_once(mut self) -> Builder {
        self.settings.exactly_once = true;
        self
    }

    /// The pause before each retry; none by default.
    pub fn retry_delay(mut self, delay: Duration) -> Builder {
        self.settings.retry_delay = delay;
        self
    }

    /// How long each attempt of the thread may run.
    pub fn time_limit(mut self, limit: Duration) -> Builder {
        self.settings.time_limit = Some(limit);
        self
    }

    /// How much memory the thread may use, in MB. (In-process threads have no such limit.)
    pub fn memory_mb(mut self, limit: u32) -> Builder {
        self.settings.memory_mb = Some(limit);
        self
    }

    /// Sets a variable of the thread's environment.
    ///
    /// Local workers have the program's working directory, environment and umask, as they are at `spawn`; elsewhere these are the
    /// platform's. The variables that are named here are set everywhere, but for threads that run inside the program's own
    /// process: there this is an [`Error::Config`] at `join`. What a thread changes ends with it.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Builder {
        self.settings.env.push((name.into(), value.into()));
        self
    }

    /// Runs a task as a cloud thread.
    ///
    /// # Errors
    ///
    /// If nothing can be run: [`Error::Encoding`] for arguments that cannot be encoded, [`Error::LimitExceeded`] for
    /// too large ones, [`Error::Config`] or [`Error::Unavailable`] if the runtime does not start.
    pub fn spawn<R: DeserializeOwned>(
        self,
        task: impl IntoTask<Output = R>,
    ) -> Result<JoinHandle<R>> {
        self.start(task.into_task())
    }

    fn start<R: DeserializeOwned>(&self, task: Task<R>) -> Result<JoinHandle<R>> {
        let mut batch = Batch::default();
        batch.add(task)?;
        let name = self.name_for(&batch.calls[0])?;
        let runtime = runtime::current()?;
        let surroundings = self.surroundings(&runtime)?;
        let (packet, control) = launch(&runtime, &self.settings, &name, batch, &surroundings)?;
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

    /// The surroundings of a thread that is spawned now.
    pub(super) fn surroundings(&self, runtime: &Runtime) -> Result<Surroundings> {
        let mut surroundings = match runtime.platform_kind() {
            PlatformKind::Local => Surroundings::now(),
            PlatformKind::InProcess => Surroundings::default(),
        };
        for (name, value) in &self.settings.env {
            let set = surroundings.set_variable(name, value);
            set.map_err(|detail| Error::Config { detail })?;
        }
        Ok(surroundings)
    }
}

/// Refuses names that would garble the lines of output.
pub(super) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
        return Err(Error::Config {
            detail: format!(
                "a thread's name has 1 to {NAME_BYTES_MAX} bytes and no control characters: {name:?}"
            ),
        });
    }
    Ok(())
}
