//! A monitor, with which the threads of one process share a value that has waiting methods.

use std::sync::{Condvar, Mutex};
use std::task::Poll;

/// Shares a value between the threads of one process; threads can wait until a method of the value is ready.
#[derive(Default)]
pub struct Monitor<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Monitor<T> {
    /// Returns a monitor of `value`.
    pub fn new(value: T) -> Monitor<T> {
        Monitor {
            value: Mutex::new(value),
            changed: Condvar::new(),
        }
    }

    /// Runs a method.
    pub fn call<R>(&self, method: impl FnOnce(&mut T) -> R) -> R {
        let mut value = self.value.lock().unwrap_or_else(|e| e.into_inner());
        let result = method(&mut value);
        self.changed.notify_all();
        result
    }

    /// Runs a method until it is ready.
    pub fn until<R>(&self, mut method: impl FnMut(&mut T) -> Poll<R>) -> R {
        self.wait(|value, _: &mut Option<()>| method(value))
    }

    /// Runs a method until it is ready. The method keeps its progress in the ticket.
    pub fn wait<R, S>(&self, mut method: impl FnMut(&mut T, &mut Option<S>) -> Poll<R>) -> R {
        let mut ticket = None;
        let mut value = self.value.lock().unwrap_or_else(|e| e.into_inner());
        // A method that is not ready may change the value only in its first run.
        let mut first = true;
        loop {
            let outcome = method(&mut value, &mut ticket);
            if first || outcome.is_ready() {
                self.changed.notify_all();
            }
            if let Poll::Ready(result) = outcome {
                return result;
            }
            first = false;
            value = self.changed.wait(value).unwrap_or_else(|e| e.into_inner());
        }
    }
}
