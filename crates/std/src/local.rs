//! Locks and atomic numbers of this process, on which the primitives stand.
//!
//! They are the standard library's. With the feature `shuttle` they are those of a scheduler that tries many interleavings
//! of threads (`tests/switch`), but for `OnceLock`: whoever sets one here holds a lock, so that nobody waits at it.

#[cfg(feature = "shuttle")]
pub(crate) use shuttle::sync::{
    Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic,
};
pub(crate) use std::sync::{Arc, OnceLock};
#[cfg(not(feature = "shuttle"))]
pub(crate) use std::sync::{
    Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic,
};
