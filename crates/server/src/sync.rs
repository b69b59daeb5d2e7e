//! The locks of `tenure`, which a test of the node's locks compiles with those of a scheduler.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64};
pub(crate) use std::thread::yield_now;

pub(crate) use parking_lot::{Mutex, MutexGuard};
