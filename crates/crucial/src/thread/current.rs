//! Which cloud thread this is.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::SystemTime;

use crucial_object::{Error, Result, caller};

use super::recorded::Recorded;

/// A cloud thread, as it sees itself.
#[derive(Clone, Debug)]
pub struct Thread {
    name: Arc<str>,
    attempt: u32,
    recorded: Option<Arc<Recorded>>,
}

impl Thread {
    pub(crate) fn new(name: &str, attempt: u32, recorded: Option<Arc<Recorded>>) -> Thread {
        Thread {
            name: name.into(),
            attempt,
            recorded,
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

    /// Whether its calls are made [exactly once](super::Builder::exactly_once), however often it is started.
    pub fn is_exactly_once(&self) -> bool {
        self.recorded.is_some()
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Thread>> = const { RefCell::new(None) };
}

/// The cloud thread that calls this; `None` outside of one.
pub fn current() -> Option<Thread> {
    CURRENT.with_borrow(Clone::clone)
}

fn recorded() -> Option<Arc<Recorded>> {
    CURRENT.with_borrow(|thread| thread.as_ref()?.recorded.clone())
}

/// The time. An [exactly-once](super::Builder::exactly_once) thread that is started again is told the times that it
/// was told before. Elsewhere, [`SystemTime::now`].
///
/// # Errors
///
/// In an exactly-once thread, those of a call.
pub fn now() -> Result<SystemTime> {
    match recorded() {
        Some(recorded) => recorded.now(),
        None => Ok(SystemTime::now()),
    }
}

/// A random number, to seed a generator with. An [exactly-once](super::Builder::exactly_once) thread that is
/// started again gets the numbers that it got before.
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

/// Runs `f` as `thread`.
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
