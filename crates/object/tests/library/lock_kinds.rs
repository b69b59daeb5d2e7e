//! What a mutex and a reader-writer lock have in common.

use crucial_object::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use crucial_object::{Result, Shared, SharedType, encode};

/// A lock on a `u32`.
pub trait Lock: SharedType + Sized {
    type Guard;

    fn make(value: u32) -> Result<Shared<Self>>;
    fn try_lock(lock: &Shared<Self>, write: bool) -> Result<Option<Self::Guard>>;
    fn token(guard: &Self::Guard) -> u64;
    fn value(guard: &Self::Guard) -> u32;
    /// Writes a value, if this guard may and shall, and unlocks.
    fn unlock(guard: Self::Guard, value: Option<u32>) -> Result<()>;
    /// The arguments of the call that waits.
    fn acquire(write: bool) -> Result<Vec<u8>>;
    /// How many read, whether one writes, how many wait, and the value.
    fn look(lock: &Shared<Self>) -> Result<(u64, bool, u64, u32)>;
}

impl Lock for Mutex<u32> {
    type Guard = MutexGuard<u32>;

    fn make(value: u32) -> Result<Shared<Self>> {
        Shared::new(Mutex::new(value))
    }

    fn try_lock(lock: &Shared<Self>, _: bool) -> Result<Option<Self::Guard>> {
        lock.try_lock()
    }

    fn token(guard: &Self::Guard) -> u64 {
        guard.token()
    }

    fn value(guard: &Self::Guard) -> u32 {
        **guard
    }

    fn unlock(mut guard: Self::Guard, value: Option<u32>) -> Result<()> {
        if let Some(value) = value {
            *guard = value;
        }
        guard.unlock()
    }

    fn acquire(_: bool) -> Result<Vec<u8>> {
        encode(&())
    }

    fn look(lock: &Shared<Self>) -> Result<(u64, bool, u64, u32)> {
        Ok((0, lock.is_locked()?, lock.waiting()?, lock.get()?))
    }
}

/// Of either kind of a reader-writer lock.
pub enum Guard {
    Read(RwLockReadGuard<u32>),
    Write(RwLockWriteGuard<u32>),
}

impl Lock for RwLock<u32> {
    type Guard = Guard;

    fn make(value: u32) -> Result<Shared<Self>> {
        Shared::new(RwLock::new(value))
    }

    fn try_lock(lock: &Shared<Self>, write: bool) -> Result<Option<Guard>> {
        Ok(if write {
            lock.try_write()?.map(Guard::Write)
        } else {
            lock.try_read()?.map(Guard::Read)
        })
    }

    fn token(guard: &Guard) -> u64 {
        match guard {
            Guard::Read(guard) => guard.token(),
            Guard::Write(guard) => guard.token(),
        }
    }

    fn value(guard: &Guard) -> u32 {
        match guard {
            Guard::Read(guard) => **guard,
            Guard::Write(guard) => **guard,
        }
    }

    fn unlock(guard: Guard, value: Option<u32>) -> Result<()> {
        match guard {
            // A reader's guard has no `unlock`; a failure is only printed.
            Guard::Read(guard) => drop(guard),
            Guard::Write(mut guard) => {
                if let Some(value) = value {
                    *guard = value;
                }
                guard.unlock()?;
            }
        }
        Ok(())
    }

    fn acquire(write: bool) -> Result<Vec<u8>> {
        encode(&(write,))
    }

    fn look(lock: &Shared<Self>) -> Result<(u64, bool, u64, u32)> {
        Ok((
            lock.readers()?,
            lock.is_writing()?,
            lock.waiting()?,
            lock.get()?,
        ))
    }
}
