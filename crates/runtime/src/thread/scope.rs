//! Threads that end with a scope.

use std::cell::RefCell;

use crucial_object::Result;
use serde::de::DeserializeOwned;

use super::builder::Builder;
use super::join::JoinHandle;
use super::packet::Packet;
use crate::task::Task;

/// Starts cloud threads that [`scope`] waits for.
#[derive(Default)]
pub struct Scope {
    threads: RefCell<Vec<Packet>>,
}

/// Runs `f`, then waits for every thread that `f` started in the scope, as [`std::thread::scope`].
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
    let value = f(&scope);
    let mut outcome = Ok(value);
    for packet in scope.threads.into_inner() {
        packet.wait(None);
        if let Some(error) = packet.error()
            && outcome.is_ok()
        {
            outcome = Err(error);
        }
    }
    outcome
}

impl Scope {
    /// Runs a task as a cloud thread of this scope.
    pub fn spawn<R: DeserializeOwned>(&self, task: Task<R>) -> JoinHandle<R> {
        match self.spawn_with(Builder::new(), task) {
            Ok(handle) => handle,
            Err(error) => {
                let handle = JoinHandle::failed(error);
                self.threads.borrow_mut().push(handle.packet().clone());
                handle
            }
        }
    }

    /// As [`spawn`](Scope::spawn), with settings.
    pub fn spawn_with<R: DeserializeOwned>(
        &self,
        builder: Builder,
        task: Task<R>,
    ) -> Result<JoinHandle<R>> {
        let handle = builder.spawn(task)?;
        self.threads.borrow_mut().push(handle.packet().clone());
        Ok(handle)
    }
}
