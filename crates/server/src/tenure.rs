//! Which thread serves an event loop.
//!
//! The serving thread holds the lock of the loop's state, except while it executes a job. When that takes long, the loop
//! passes to another thread, which has the next tenure; the first finishes its job and leaves.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, yield_now};

/// A loop's state, for one thread at a time.
pub(crate) struct Served<T> {
    state: Mutex<T>,
    tenure: Mutex<Arc<Tenure>>,
}

/// A thread's time at a loop.
#[derive(Default)]
pub(crate) struct Tenure {
    steps: AtomicU64,
    over: AtomicBool,
    left: AtomicBool,
}

impl Tenure {
    /// Odd while the thread executes, and then the same for as long as one job takes.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    pub fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether another thread has the loop, or none as the server stops.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// The thread serves no more.
    pub fn leave(&self) {
        self.left.store(true, Ordering::Release);
    }

    /// Whether the thread is gone, or will leave after its job without anybody waiting for that.
    pub fn has_ended(&self) -> bool {
        self.left.load(Ordering::Acquire) || self.is_over()
    }
}

impl<T> Served<T> {
    pub fn new(state: T) -> Served<T> {
        Served {
            state: Mutex::new(state),
            tenure: Mutex::default(),
        }
    }

    /// The loop's lock, for a thread that begins its tenure.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.state.lock()
    }

    /// The loop's lock, for the thread that has executed a job; `None` if another thread serves the loop by now, which may
    /// hold the lock for as long as nothing happens. A thread whose tenure has ended, or is about to begin, may hold it for
    /// a moment.
    pub fn take_back(&self, tenure: &Tenure) -> Option<MutexGuard<'_, T>> {
        loop {
            if let Some(state) = self.state.try_lock() {
                return Some(state);
            }
            if tenure.is_over() {
                return None;
            }
            yield_now();
        }
    }

    /// The present tenure.
    pub fn tenure(&self) -> Arc<Tenure> {
        self.tenure.lock().clone()
    }

    /// Lets the thread leave after its job, without another.
    pub fn end(&self) {
        self.tenure().over.store(true, Ordering::Release);
    }

    /// Gives the loop to a thread that `spawn` starts.
    ///
    /// # Errors
    ///
    /// If there is no other thread. The present tenure goes on: it ends only when another thread is there, since its thread
    /// leaves at once.
    pub fn pass_on<E>(&self, spawn: impl FnOnce(Arc<Tenure>) -> Result<(), E>) -> Result<(), E> {
        let next = Arc::new(Tenure::default());
        spawn(next.clone())?;
        let previous = std::mem::replace(&mut *self.tenure.lock(), next);
        previous.over.store(true, Ordering::Release);
        Ok(())
    }
}
