//! How a thread is started.

use std::io;
use std::time::Duration;

use crucial_runtime::{IsTask, thread as native};

use super::join::{JoinHandle, ScopedJoinHandle};
use super::scope::Scope;

/// Runs a `#[cloud]` function as a cloud thread, as [`std::thread::spawn`]: `spawn(move || work(x, y))`.
///
/// The closure is called at once and only builds the task. What waits in it panics.
#[track_caller]
pub fn spawn<F, T>(f: F) -> JoinHandle<T::Output>
where
    F: FnOnce() -> T,
    T: IsTask + 'static,
{
    JoinHandle::new(native::spawn(f))
}

/// Sets how a thread runs, as [`std::thread::Builder`], and what std has not: [`retries`](Builder::retries),
/// [`exactly_once`](Builder::exactly_once), limits.
#[derive(Clone, Debug, Default)]
#[must_use = "a builder starts nothing by itself"]
pub struct Builder(native::Builder);

impl Builder {
    /// A thread with the platform's limits and without retries.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Names the thread.
    pub fn name(self, name: String) -> Builder {
        Builder(self.0.name(name))
    }

    /// Has no effect: cloud threads have stacks of 8 MiB, as the main thread of a process.
    pub fn stack_size(self, _bytes: usize) -> Builder {
        self
    }

    /// How often the thread is started again, at most, if it does not return.
    pub fn retries(self, count: u32) -> Builder {
        Builder(self.0.retries(count))
    }

    /// Makes each call of the thread take effect once, however often the thread is started:
    /// [`crucial::thread::Builder::exactly_once`](native::Builder::exactly_once).
    pub fn exactly_once(self) -> Builder {
        Builder(self.0.exactly_once())
    }

    /// How long each attempt may run.
    pub fn time_limit(self, limit: Duration) -> Builder {
        Builder(self.0.time_limit(limit))
    }

    /// How much memory the thread may use, in MB.
    pub fn memory_mb(self, limit: u32) -> Builder {
        Builder(self.0.memory_mb(limit))
    }

    /// Runs a `#[cloud]` function as a cloud thread.
    ///
    /// # Errors
    ///
    /// If nothing can be run, for instance because an argument cannot be encoded.
    pub fn spawn<F, T>(self, f: F) -> io::Result<JoinHandle<T::Output>>
    where
        F: FnOnce() -> T,
        T: IsTask + 'static,
    {
        let started = self.0.spawn(f);
        started.map(JoinHandle::new).map_err(io::Error::other)
    }

    /// Runs a `#[cloud]` function as a cloud thread of a scope.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Builder::spawn).
    pub fn spawn_scoped<'scope, 'env, F, T>(
        self,
        scope: &'scope Scope<'scope, 'env>,
        f: F,
    ) -> io::Result<ScopedJoinHandle<'scope, T::Output>>
    where
        F: FnOnce() -> T + 'scope,
        T: IsTask + 'scope,
    {
        scope.start(self.0, f).map_err(io::Error::other)
    }
}
