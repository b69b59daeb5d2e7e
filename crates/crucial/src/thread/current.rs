//! Which cloud thread this is.

use std::cell::RefCell;
use std::sync::Arc;

/// A cloud thread, as it sees itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    name: Arc<str>,
    attempt: u32,
}

impl Thread {
    pub(crate) fn new(name: &str, attempt: u32) -> Thread {
        Thread {
            name: name.into(),
            attempt,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How often it was started, with this time: 1 unless it is a retry.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Thread>> = const { RefCell::new(None) };
}

/// The cloud thread that calls this; `None` outside of one.
pub fn current() -> Option<Thread> {
    CURRENT.with_borrow(Clone::clone)
}

/// Runs `f` as `thread`.
pub(crate) fn enter<R>(thread: Thread, f: impl FnOnce() -> R) -> R {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            CURRENT.set(None);
        }
    }
    CURRENT.set(Some(thread));
    let _leave = Leave;
    f()
}
