//! Shared counterparts of `std::sync`: atomics, barrier, semaphore.
//!
//! Names and meanings are those of `std` where the meaning is the same. Each is an ordinary shared
//! object, written with [`#[shared]`](crate::shared), and known to every server.

mod atomic;
mod barrier;
mod semaphore;

pub use atomic::{
    AtomicBool, AtomicBoolDeferred, AtomicBoolProxy, AtomicI64, AtomicI64Deferred, AtomicI64Proxy,
    AtomicU64, AtomicU64Deferred, AtomicU64Proxy,
};
pub use barrier::{Barrier, BarrierDeferred, BarrierProxy, BarrierWaitResult};
pub use semaphore::{Semaphore, SemaphoreDeferred, SemaphoreProxy};
