//! A monitor: how threads of one process share a value with methods that wait.

use std::sync::{Condvar, Mutex};
use std::task::Poll;

/// Lets threads of one process share a value, and wait until a method of it is ready.
#[derive(Default)]
pub struct Monitor<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Monitor<T> {
    /// A monitor of `value`.
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

    /// Runs a method until it is ready. It remembers in the ticket what it did.
    pub fn wait<R, S>(&self, mut method: impl FnMut(&mut T, &mut Option<S>) -> Poll<R>) -> R {
        let mut ticket = None;
        let mut value = self.value.lock().unwrap_or_else(|e| e.into_inner());
        // Only a method's first run changes the value while it is not ready.
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
