//! Writes down the calls of many threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{History, Operation};

/// Records calls with their times. Threads share it by reference.
#[derive(Debug)]
pub struct Recorder<K, I, O> {
    ticks: AtomicU64,
    operations: Mutex<Vec<Operation<K, I, O>>>,
}

impl<K, I, O> Recorder<K, I, O> {
    /// An empty recorder.
    pub const fn new() -> Self {
        Recorder {
            ticks: AtomicU64::new(0),
            operations: Mutex::new(Vec::new()),
        }
    }

    /// Makes the call and records it. An `Err` means that nobody knows whether the call took effect;
    /// an error that is an answer of the object belongs into the output. A panic counts as `Err`.
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

    /// Records that a call begins, for calls that [`record`](Recorder::record) can not wrap.
    pub fn begin(&self, process: u64, object: K, input: I) -> Running<'_, K, I, O> {
        // It is in the list from now on: others may see its effect before it returns, if it does.
        let mut operations = self.operations();
        let number = operations.len();
        // Read after the wait for the lock, so that the wait does not blur the time.
        let called = self.tick();
        operations.push(Operation::called(process, object, input, called));
        Running {
            recorder: self,
            number,
        }
    }

    /// What was recorded so far. Calls that are still running have no answer in it.
    pub fn history(&self) -> History<K, I, O>
    where
        K: Clone,
        I: Clone,
        O: Clone,
    {
        self.operations().clone().into()
    }

    /// What was recorded.
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
        // Each change is one push or one assignment, so a panic leaves nothing half done.
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

/// A call that was begun. If it is dropped, its answer never came.
#[derive(Debug)]
#[must_use = "without `returned` the operation counts as one that got no answer"]
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
