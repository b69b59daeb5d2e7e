//! Shared counterparts of `std::sync`: atomics, locks, and ways to wait for each other.
//!
//! Names and meanings are those of `std` where the meaning is the same. Each is an ordinary shared
//! object, written with [`#[shared]`](crate::shared), and known to every server.
//!
//! | to | use |
//! |---|---|
//! | count, flag, swap | [`AtomicI64`] and its like, [`AtomicBool`], [`AtomicCell`], [`Counter`] |
//! | meet | [`Barrier`], [`AllReduce`], [`Latch`] |
//! | wait for a value | [`Promise`], [`OnceLock`] |
//! | exclude | [`Mutex`], [`RwLock`], [`Semaphore`]; wait inside: [`Condvar`] |
//!
//! **When a process dies**, its session ends when its lease has lapsed (10 s by default). Then its calls that
//! wait give up their places, and what it holds (locks, permits) comes back. An attempt of a cloud thread that
//! is retried, cancelled, or found dead by the platform is ended at once. What each type does is in its page.

use crate::{Element, Error, Opaque, Result};

mod all_reduce;
pub mod atomic;
mod atomic_cell;
mod barrier;
mod condvar;
mod counter;
mod latch;
pub(crate) mod line;
mod mutex;
mod once_lock;
mod promise;
mod rw_lock;
mod semaphore;
mod update;

pub use all_reduce::{AllReduce, AllReduceDeferred, AllReduceProxy, Reduction};
pub use atomic::{
    AtomicBool, AtomicBoolDeferred, AtomicBoolProxy, AtomicI8, AtomicI8Deferred, AtomicI8Proxy,
    AtomicI16, AtomicI16Deferred, AtomicI16Proxy, AtomicI32, AtomicI32Deferred, AtomicI32Proxy,
    AtomicI64, AtomicI64Deferred, AtomicI64Proxy, AtomicIsize, AtomicIsizeDeferred,
    AtomicIsizeProxy, AtomicU8, AtomicU8Deferred, AtomicU8Proxy, AtomicU16, AtomicU16Deferred,
    AtomicU16Proxy, AtomicU32, AtomicU32Deferred, AtomicU32Proxy, AtomicU64, AtomicU64Deferred,
    AtomicU64Proxy, AtomicUsize, AtomicUsizeDeferred, AtomicUsizeProxy,
};
pub use atomic_cell::{AtomicCell, AtomicCellDeferred, AtomicCellProxy};
pub use barrier::{Barrier, BarrierDeferred, BarrierProxy, BarrierWaitResult};
pub use condvar::{Condvar, CondvarDeferred, CondvarProxy, WaitTimeoutResult};
pub use counter::{Counter, CounterDeferred, CounterProxy};
pub use latch::{Latch, LatchDeferred, LatchProxy};
pub use mutex::{Mutex, MutexDeferred, MutexGuard, MutexProxy};
pub use once_lock::{OnceLock, OnceLockDeferred, OnceLockProxy};
pub use promise::{Promise, PromiseDeferred, PromiseProxy};
pub use rw_lock::{RwLock, RwLockDeferred, RwLockProxy, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Semaphore, SemaphoreDeferred, SemaphorePermit, SemaphoreProxy};

/// Gives back what is held, with a value; without, if the value cannot be sent: a lock must not stay held
/// for as long as this process lives.
fn give_back<T: Element, R>(
    value: Option<&T>,
    mut send: impl FnMut(Option<Opaque>) -> Result<R>,
) -> Result<R> {
    let sealed = value.map(|value| Opaque::unseal(value.seal()?)).transpose();
    let result = sealed.and_then(&mut send);
    if let Err(Error::Encoding { .. } | Error::LimitExceeded { .. }) = &result {
        send(None)?;
    }
    result
}

/// Opens the value that came with something that is now held, and gives that back if this client cannot read
/// the value.
fn unseal<T: Element>(value: &Opaque, give_back: impl FnOnce() -> Result<()>) -> Result<T> {
    struct Held<F: FnOnce() -> Result<()>>(Option<F>);
    impl<F: FnOnce() -> Result<()>> Drop for Held<F> {
        fn drop(&mut self) {
            if let Some(give_back) = self.0.take()
                && let Err(error) = give_back()
            {
                report("a lock", &error);
            }
        }
    }
    // Dropped also if the value's type panics.
    let mut held = Held(Some(give_back));
    let value = T::unseal(value.seal()?)?;
    held.0 = None;
    Ok(value)
}

/// A guard was dropped and could not give back what it held; a destructor returns no error.
fn report(what: &str, error: &Error) {
    // Whoever was fenced, or shut down, holds nothing any more.
    if !matches!(error, Error::Fenced | Error::Cancelled) {
        eprintln!("crucial: {what} could not be given back: {error}");
    }
}
