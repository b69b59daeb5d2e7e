//! The result of a cloud thread.

use std::marker::PhantomData;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crucial_object::{Error, Result, decode};
use serde::de::DeserializeOwned;

use super::control::Control;
use crate::task::Results;

/// Where a thread leaves its results.
#[derive(Clone, Default)]
pub(crate) struct Packet(Arc<Shared>);

#[derive(Default)]
struct Shared {
    outcome: Mutex<Outcome>,
    changed: Condvar,
}

#[derive(Default)]
struct Outcome {
    result: Option<Result<Results>>,
    finished: bool,
}

impl Packet {
    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.0.outcome.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The thread has ended. Only the first word counts.
    pub fn fill(&self, result: Result<Results>) {
        let mut outcome = self.outcome();
        if outcome.finished {
            return;
        }
        outcome.result = Some(result);
        outcome.finished = true;
        drop(outcome);
        self.0.changed.notify_all();
    }

    pub fn is_finished(&self) -> bool {
        self.outcome().finished
    }

    /// Blocks until the thread has ended, but not longer than until `deadline`; whether it has.
    pub fn wait(&self, deadline: Option<Instant>) -> bool {
        let mut outcome = self.outcome();
        while !outcome.finished {
            outcome = match deadline {
                None => self
                    .0
                    .changed
                    .wait(outcome)
                    .unwrap_or_else(|e| e.into_inner()),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    let waited = self.0.changed.wait_timeout(outcome, left);
                    waited.unwrap_or_else(|e| e.into_inner()).0
                }
            };
        }
        true
    }

    /// Why the thread did not end well, if it did not and nobody has joined it.
    pub fn error(&self) -> Option<Error> {
        match &self.outcome().result {
            Some(Err(error)) => Some(error.clone()),
            _ => None,
        }
    }

    /// Blocks until the thread has ended, and takes its results.
    pub fn take(&self) -> Result<Results> {
        self.wait(None);
        self.outcome()
            .result
            .take()
            .unwrap_or(Err(Error::Cancelled))
    }
}

/// The right to wait for a cloud thread, as [`std::thread::JoinHandle`].
///
/// Dropping it detaches the thread.
pub struct JoinHandle<R> {
    name: String,
    packet: Packet,
    /// `None`: it was not started.
    control: Option<Arc<Control>>,
    _result: PhantomData<fn() -> R>,
}

impl<R: DeserializeOwned> JoinHandle<R> {
    pub(crate) fn new(
        name: String,
        packet: Packet,
        control: Option<Arc<Control>>,
    ) -> JoinHandle<R> {
        JoinHandle {
            name,
            packet,
            control,
            _result: PhantomData,
        }
    }

    /// A thread that could not be started.
    pub(crate) fn failed(error: Error) -> JoinHandle<R> {
        let packet = Packet::default();
        packet.fill(Err(error));
        JoinHandle::new("(not started)".to_owned(), packet, None)
    }

    pub(crate) fn packet(&self) -> &Packet {
        &self.packet
    }

    /// Waits for the thread to end, and returns what it returned.
    ///
    /// # Errors
    ///
    /// [`Error::Panicked`] with message and place; [`Error::WorkerDied`], [`Error::TimeLimit`],
    /// [`Error::MemoryLimit`], [`Error::Cancelled`] or [`Error::Platform`] if it was not let finish; or why it could not be
    /// started. With [`Builder::retries`](super::Builder::retries), of the last attempt.
    pub fn join(self) -> Result<R> {
        let results = self.packet.take()?;
        match results.0.into_iter().next() {
            Some(result) => decode(&result),
            None => Err(Error::Protocol {
                detail: "the worker returned no result".to_owned(),
            }),
        }
    }

    /// Waits for the thread to end, but not longer than `timeout`; whether it has ended. Then
    /// [`join`](JoinHandle::join) does not block.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        // What no clock can show is for ever.
        self.packet.wait(Instant::now().checked_add(timeout))
    }

    /// Ends the thread, wherever it is and however far it is: when this returns it can change nothing any
    /// more (a method that a server is executing for it at this moment may still end), what it held or waited
    /// for is given up, and `join` fails with [`Error::Cancelled`]. What it has changed stays changed. Its worker
    /// is killed where the platform can do that. Nothing happens if the thread has ended.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if the server can not be reached: then the thread may still have changed
    /// something.
    pub fn cancel(&self) -> Result<()> {
        match &self.control {
            Some(control) => control.cancel(&self.packet),
            None => Ok(()),
        }
    }

    /// Whether the thread has ended. Does not block.
    pub fn is_finished(&self) -> bool {
        self.packet.is_finished()
    }

    /// The thread's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<R> std::fmt::Debug for JoinHandle<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinHandle")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
