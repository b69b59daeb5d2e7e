//! Locks and atomic numbers of the node.
//!
//! They are parking_lot's and the standard library's. With the feature `shuttle` they are those of a scheduler that tries
//! many interleavings of threads (`tests/locks`), with the same methods.

mod mutant;
#[cfg(feature = "shuttle")]
mod scheduled;

pub use mutant::LockMutant;
#[cfg(not(feature = "shuttle"))]
pub(crate) use parking_lot::{Mutex, MutexGuard, RwLock};
#[cfg(feature = "shuttle")]
pub(crate) use scheduled::{Mutex, MutexGuard, RwLock};
#[cfg(feature = "shuttle")]
pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
#[cfg(not(feature = "shuttle"))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
