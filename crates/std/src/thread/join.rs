//! The handles of threads.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::thread::Result;

use crucial_object::{Error, decode};
use crucial_runtime::thread as native;
use serde::de::DeserializeOwned;

use super::ended::Ended;
use super::parked::Thread;

/// Why a thread has not returned, as `join` has it: a panic's message, or the text of another error.
pub(super) fn payload(error: Error) -> Box<dyn Any + Send> {
    Box::new(match error {
        Error::Panicked { message, .. } => message,
        other => other.to_string(),
    })
}

/// The right to wait for a thread, as [`std::thread::JoinHandle`].
pub struct JoinHandle<R> {
    handle: native::JoinHandle<R>,
    thread: Thread,
}

impl<R: DeserializeOwned> JoinHandle<R> {
    pub(super) fn new(handle: native::JoinHandle<R>) -> JoinHandle<R> {
        let thread = Thread::of(&handle);
        JoinHandle { handle, thread }
    }

    /// Waits for the thread to end, and returns what its function returned.
    ///
    /// # Errors
    ///
    /// A `String`: the message of the panic, or why else the thread has not returned.
    pub fn join(self) -> Result<R> {
        self.handle.join().map_err(payload)
    }

    /// Whether the thread has ended. Does not block.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }
}

impl<R> JoinHandle<R> {
    /// The thread.
    pub fn thread(&self) -> &Thread {
        &self.thread
    }
}

impl<R> fmt::Debug for JoinHandle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").finish_non_exhaustive()
    }
}

/// The right to wait for a thread of a scope, as [`std::thread::ScopedJoinHandle`].
pub struct ScopedJoinHandle<'scope, R> {
    ended: Arc<Ended>,
    thread: Thread,
    _scope: PhantomData<&'scope ()>,
    _result: PhantomData<fn() -> R>,
}

impl<R: DeserializeOwned> ScopedJoinHandle<'_, R> {
    pub(super) fn new(ended: Arc<Ended>, thread: Thread) -> Self {
        ScopedJoinHandle {
            ended,
            thread,
            _scope: PhantomData,
            _result: PhantomData,
        }
    }

    /// Waits for the thread to end, and returns what its function returned. What was lent by `&mut` is written at the end of
    /// the scope.
    ///
    /// # Errors
    ///
    /// As of [`JoinHandle::join`].
    pub fn join(self) -> Result<R> {
        self.ended
            .join()
            .and_then(|bytes| decode(&bytes))
            .map_err(payload)
    }

    /// Whether the thread has ended. Does not block.
    pub fn is_finished(&self) -> bool {
        self.ended.is_finished()
    }
}

impl<R> ScopedJoinHandle<'_, R> {
    /// The thread.
    pub fn thread(&self) -> &Thread {
        &self.thread
    }
}

impl<R> fmt::Debug for ScopedJoinHandle<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedJoinHandle").finish_non_exhaustive()
    }
}
