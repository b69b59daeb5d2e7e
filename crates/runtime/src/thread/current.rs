//! The cloud thread that runs on a thread of this process.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::SystemTime;

use crucial_object::{Error, Result, ThreadId, caller};
use crucial_proto::frame::Attempt;

use super::recorded::Recorded;

/// A cloud thread, seen from its own code.
#[derive(Clone, Debug)]
pub struct Thread {
    name: Arc<str>,
    attempt: u32,
    id: ThreadId,
    recorded: Option<Arc<Recorded>>,
}

impl Thread {
    pub(crate) fn new(name: &str, attempt: Attempt, recorded: Option<Arc<Recorded>>) -> Thread {
        Thread {
            name: name.into(),
            attempt: attempt.number,
            id: attempt.thread,
            recorded,
        }
    }

    /// The thread's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its id: that of all its attempts.
    pub fn id(&self) -> ThreadId {
        self.id
    }

    /// The number of this attempt: 1 unless the thread was retried.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether each call of the thread takes effect [exactly once](super::Builder::exactly_once), however often the thread
    /// is started.
    pub fn is_exactly_once(&self) -> bool {
        self.recorded.is_some()
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Thread>> = const { RefCell::new(None) };
}

/// The cloud thread that calls this function; `None` outside cloud threads.
pub fn current() -> Option<Thread> {
    CURRENT.with_borrow(Clone::clone)
}

fn recorded() -> Option<Arc<Recorded>> {
    CURRENT.with_borrow(|thread| thread.as_ref()?.recorded.clone())
}

/// The time. A retried [exactly-once](super::Builder::exactly_once) thread gets the times that its earlier attempts got.
/// Everywhere else, [`SystemTime::now`].
///
/// # Errors
///
/// In an exactly-once thread, the errors of a call.
pub fn now() -> Result<SystemTime> {
    match recorded() {
        Some(recorded) => recorded.now(),
        None => Ok(SystemTime::now()),
    }
}

/// A random number, to seed a generator with. A retried [exactly-once](super::Builder::exactly_once) thread gets the
/// numbers that its earlier attempts got.
///
/// # Errors
///
/// If the operating system has no random numbers.
pub fn random() -> Result<u64> {
    match recorded() {
        Some(recorded) => Ok(recorded.random()),
        None => {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).map_err(Error::other)?;
            Ok(u64::from_le_bytes(bytes))
        }
    }
}

/// Runs `f` as the cloud thread `thread`.
pub(crate) fn enter<R>(thread: Thread, f: impl FnOnce() -> R) -> R {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            CURRENT.set(None);
        }
    }
    let name = thread.name.clone();
    CURRENT.set(Some(thread));
    let _leave = Leave;
    caller::as_thread(name, f)
}
