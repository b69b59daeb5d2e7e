//! A thread of a scope, until its result is decoded.

use std::sync::{Mutex, MutexGuard};

use crucial_object::{Error, Result};
use crucial_runtime::{Returned, thread as native};
use serde::de::DeserializeOwned;

/// A thread of a scope, and what it gave back.
pub(super) struct Ended(Mutex<State>);

enum State {
    Running(Box<dyn Handle>),
    /// Joined, with what was lent by `&mut` if it returned.
    Joined(Option<Vec<u8>>),
}

/// A thread whose result is not decoded yet.
trait Handle: Send {
    fn is_finished(&self) -> bool;
    fn returned(self: Box<Self>) -> Result<Returned>;
}

impl<R: DeserializeOwned> Handle for native::JoinHandle<R> {
    fn is_finished(&self) -> bool {
        native::JoinHandle::is_finished(self)
    }

    fn returned(self: Box<Self>) -> Result<Returned> {
        native::JoinHandle::returned(*self)
    }
}

impl Ended {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn of<R: DeserializeOwned + 'static>(handle: native::JoinHandle<R>) -> Ended {
        Ended(Mutex::new(State::Running(Box::new(handle))))
    }

    pub fn was_joined(&self) -> bool {
        matches!(&*self.state(), State::Joined(_))
    }

    /// What was lent by `&mut`, as the thread left it, if it returned and was joined.
    pub fn written(&self) -> Option<Vec<u8>> {
        match &mut *self.state() {
            State::Joined(written) => written.take(),
            State::Running(_) => None,
        }
    }

    pub fn is_finished(&self) -> bool {
        match &*self.state() {
            State::Running(handle) => handle.is_finished(),
            State::Joined(_) => true,
        }
    }

    /// Waits for the thread, and takes its encoded result.
    pub fn join(&self) -> Result<Vec<u8>> {
        // One handle joins it, and then the scope looks: nobody waits for this lock meanwhile.
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Joined(None)) {
            State::Running(handle) => {
                let Returned { result, written } = handle.returned()?;
                *state = State::Joined(Some(written));
                Ok(result)
            }
            State::Joined(_) => Err(Error::Cancelled),
        }
    }
}
