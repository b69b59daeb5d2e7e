//! Records the calls of many threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{History, Operation};

/// Records calls with their times. Threads share a recorder by reference.
#[derive(Debug)]
pub struct Recorder<K, I, O> {
    ticks: AtomicU64,
    operations: Mutex<Vec<Operation<K, I, O>>>,
}

impl<K, I, O> Recorder<K, I, O> {
    /// Returns an empty recorder.
    pub const fn new() -> Self {
        Recorder {
            ticks: AtomicU64::new(0),
            operations: Mutex::new(Vec::new()),
        }
    }

    /// Makes the call and records it. An `Err` means that the call's effect is unknown; an error that the object
    /// itself returned belongs into the output. A panic counts as an `Err`.
    pub fn record<E>(
        &self,
        process: u64,
        object: K,
        input: I,
        call: impl FnOnce() -> Result<O, E>,
    ) -> Result<O, E>
    where
        O: Clone,
    {
        let running = self.begin(process, object, input);
        let output = call()?;
        running.returned(output.clone());
        Ok(output)
    }

    /// Records that a call begins, for calls that [`record`](Recorder::record) cannot wrap.
    pub fn begin(&self, process: u64, object: K, input: I) -> Running<'_, K, I, O> {
        // The operation is listed before the call: others may see its effect before it returns, or without a return.
        let mut operations = self.operations();
        let number = operations.len();
        // The tick is taken after waiting for the lock, since the wait is no part of the call.
        let called = self.tick();
        operations.push(Operation::called(process, object, input, called));
        Running {
            recorder: self,
            number,
        }
    }

    /// A copy of the history recorded so far. Calls that are still running have no answer.
    pub fn history(&self) -> History<K, I, O>
    where
        K: Clone,
        I: Clone,
        O: Clone,
    {
        self.operations().clone().into()
    }

    /// The recorded history.
    pub fn into_history(self) -> History<K, I, O> {
        self.operations
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .into()
    }

    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }

    fn operations(&self) -> MutexGuard<'_, Vec<Operation<K, I, O>>> {
        // A poisoned lock is safe to use: each change is a single push or assignment.
        self.operations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, I, O> Default for Recorder<K, I, O> {
    fn default() -> Self {
        Recorder::new()
    }
}

/// A call that has begun. If the value is dropped, the call has no answer.
#[derive(Debug)]
#[must_use = "without a call of `returned` the operation counts as unanswered"]
pub struct Running<'a, K, I, O> {
    recorder: &'a Recorder<K, I, O>,
    number: usize,
}

impl<K, I, O> Running<'_, K, I, O> {
    /// Records that the call returned.
    pub fn returned(self, output: O) {
        let returned = self.recorder.tick();
        if let Some(operation) = self.recorder.operations().get_mut(self.number) {
            operation.answer = Some((output, returned));
        }
    }
}
