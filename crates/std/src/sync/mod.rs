//! `std::sync`, with primitives that travel: each is local until it is first part of a task or of another object.
//!
//! `docs/drop-in.md` says what each does when, and what is not the same as in std. `gate` is what locks have in common,
//! `switch` how an atomic becomes a shared object.

pub use ::std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};

mod arc;
pub mod atomic;
mod barrier;
mod condvar;
mod gate;
pub mod mpsc;
mod mutex;
mod once;
mod rw_lock;
mod switch;

pub use arc::{Arc, Weak};
pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use mutex::{Mutex, MutexGuard};
pub use once::{LazyLock, Once, OnceLock};
pub use rw_lock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
