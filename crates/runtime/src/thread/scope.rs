//! Threads that end with a scope.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crucial_object::Result;
use serde::de::DeserializeOwned;

use super::builder::Builder;
use super::group::{Started, cancel_all};
use super::join::JoinHandle;
use crate::task::IntoTask;

/// Starts cloud threads that [`scope`] waits for.
#[derive(Default)]
pub struct Scope {
    threads: RefCell<Vec<Started>>,
}

/// Runs `f`, then waits for every thread that `f` started in the scope, as [`std::thread::scope`], also if `f` panics.
///
/// ```no_run
/// # use crucial::{cloud, sync::AtomicI64, thread, Result, Shared};
/// # #[cloud] fn add(n: i64, sum: Shared<AtomicI64>) -> Result<()> { sum.fetch_add(n)?; Ok(()) }
/// # fn main() -> Result<()> {
/// let sum = Shared::new(AtomicI64::new(0))?;
/// thread::scope(|scope| {
///     for n in 1..=100 {
///         scope.spawn(add(n, sum.clone()));
///     }
/// })?;
/// assert_eq!(sum.load()?, 5050);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The error of the first thread (in the order of their starts) that failed and was not joined in `f`. A thread's own
/// result, even an `Err`, is only seen by `join`.
pub fn scope<T>(f: impl FnOnce(&Scope) -> T) -> Result<T> {
    let scope = Scope::default();
    let value = catch_unwind(AssertUnwindSafe(|| f(&scope)));
    let mut failure = None;
    for (packet, _) in scope.threads.into_inner() {
        packet.wait(None);
        failure = failure.or_else(|| packet.error());
    }
    // A panic goes on when nothing of the scope runs any more, as in std.
    let value = value.unwrap_or_else(|panic| resume_unwind(panic));
    match failure {
        Some(error) => Err(error),
        None => Ok(value),
    }
}

impl Scope {
    /// Runs a task as a cloud thread of this scope.
    pub fn spawn<R: DeserializeOwned>(&self, task: impl IntoTask<Output = R>) -> JoinHandle<R> {
        match self.spawn_with(Builder::new(), task) {
            Ok(handle) => handle,
            Err(error) => {
                let handle = JoinHandle::failed(error);
                self.add(&handle);
                handle
            }
        }
    }

    /// As [`spawn`](Scope::spawn), with settings.
    pub fn spawn_with<R: DeserializeOwned>(
        &self,
        builder: Builder,
        task: impl IntoTask<Output = R>,
    ) -> Result<JoinHandle<R>> {
        let handle = builder.spawn(task)?;
        self.add(&handle);
        Ok(handle)
    }

    fn add<R: DeserializeOwned>(&self, handle: &JoinHandle<R>) {
        let started = (handle.packet().clone(), handle.control().cloned());
        self.threads.borrow_mut().push(started);
    }

    /// Cancels the threads of this scope that have not ended, for instance because one of them has failed and the others would
    /// wait for it in vain. [`join_all`](super::join_all) does so by itself.
    pub fn cancel_all(&self) {
        cancel_all(&self.threads.borrow());
    }
}
