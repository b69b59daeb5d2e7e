//! The handle of a cloud thread.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crucial_object::{Error, Result, ThreadId, decode};
use serde::de::DeserializeOwned;

use super::control::Control;
use super::packet::Packet;
use crate::task::Returned;

/// The right to wait for a cloud thread, as [`std::thread::JoinHandle`].
///
/// Dropping it detaches the thread.
pub struct JoinHandle<R> {
    name: String,
    packet: Packet,
    /// `None` if the thread could not be started.
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
        JoinHandle::new("(not started)".to_owned(), Packet::failed(error), None)
    }

    /// The thread without its name.
    pub(super) fn into_parts(self) -> (Packet, Option<Arc<Control>>) {
        (self.packet, self.control)
    }

    pub(super) fn control(&self) -> Option<&Arc<Control>> {
        self.control.as_ref()
    }

    pub(crate) fn packet(&self) -> &Packet {
        &self.packet
    }

    /// Waits for the thread to end, and returns what it returned.
    ///
    /// # Errors
    ///
    /// [`Error::Panicked`] with message and place; [`Error::WorkerDied`], [`Error::TimeLimit`],
    /// [`Error::MemoryLimit`], [`Error::Cancelled`] or [`Error::Platform`] if the thread was ended early; or the reason
    /// why the thread could not be started. With [`Builder::retries`](super::Builder::retries), the error of the last
    /// attempt.
    pub fn join(self) -> Result<R> {
        decode(&self.returned()?.result)
    }

    /// As [`join`](JoinHandle::join): what the function gave back, encoded.
    #[doc(hidden)]
    pub fn returned(self) -> Result<Returned> {
        self.packet.take()?.only()
    }

    /// Waits for the thread to end, but not longer than `timeout`, and returns whether the thread has ended. If so,
    /// [`join`](JoinHandle::join) does not block.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        // A deadline beyond the clock's range is no deadline.
        self.packet.wait(Instant::now().checked_add(timeout))
    }

    /// Ends the thread, wherever and however far it is. When this method returns, the thread cannot change anything any
    /// more (a method that a server is executing for the thread at this moment may still complete), what the thread held
    /// or waited for is released, and `join` fails with [`Error::Cancelled`]. Earlier changes stay. The worker is killed
    /// where the platform can kill it. A thread that has ended is not affected.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if the server cannot be reached: then the thread may still change something.
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

    /// The thread's id; `None` if the thread could not be started.
    pub fn id(&self) -> Option<ThreadId> {
        self.control.as_ref().map(|control| control.thread)
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
