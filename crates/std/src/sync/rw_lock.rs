//! A readers-writer lock that is local until it travels.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::gate::{Access, End, Entered, Gate, Taken, bring, report};
use crate::codec::Codec;
use crate::lent::Lent;
use crate::local::{self, OnceLock};
use crate::remote::Remote;
use crate::statics;

/// A value for one thread that writes or several that read, as [`std::sync::RwLock`]. A shared one brings the value to who
/// locks it, and takes it back if it was borrowed mutably.
///
/// It is poisoned as a [`Mutex`](super::Mutex), by those who write.
///
/// # Panics
///
/// Operations on a shared one panic with the error's text if the call fails.
pub struct RwLock<T> {
    gate: Gate,
    codec: OnceLock<Codec<T>>,
    /// `None`: the value is at the object.
    value: local::RwLock<Option<T>>,
}

impl<T> RwLock<T> {
    /// An unlocked lock.
    pub const fn new(value: T) -> RwLock<T> {
        RwLock {
            gate: Gate::new(),
            codec: OnceLock::new(),
            value: local::RwLock::new(Some(value)),
        }
    }

    fn for_writing(&self) -> local::RwLockWriteGuard<'_, Option<T>> {
        self.value.write().unwrap_or_else(|e| e.into_inner())
    }

    /// Locks it for reading; blocks while a thread writes.
    ///
    /// # Errors
    ///
    /// The guard, if the lock is poisoned.
    #[track_caller]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        statics::refuse_in_worker(self, "RwLock");
        let (held, poisoned) = self.held_for_reading(self.gate.enter(Access::Reading));
        guard(RwLockReadGuard { lock: self, held }, poisoned)
    }

    /// Locks it for reading, if no thread writes.
    ///
    /// # Errors
    ///
    /// As std's.
    #[track_caller]
    pub fn try_read(&self) -> TryLockResult<RwLockReadGuard<'_, T>> {
        statics::refuse_in_worker(self, "RwLock");
        let entered = self.gate.try_enter(Access::Reading);
        let (held, poisoned) = self.held_for_reading(entered.ok_or(TryLockError::WouldBlock)?);
        Ok(guard(RwLockReadGuard { lock: self, held }, poisoned)?)
    }

    /// Locks it for writing; blocks while a thread reads or writes.
    ///
    /// # Errors
    ///
    /// The guard, if the lock is poisoned.
    #[track_caller]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        statics::refuse_in_worker(self, "RwLock");
        self.write_guard(self.gate.enter(Access::Exclusive))
    }

    /// Locks it for writing, if no thread reads or writes.
    ///
    /// # Errors
    ///
    /// As std's.
    #[track_caller]
    pub fn try_write(&self) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        statics::refuse_in_worker(self, "RwLock");
        let entered = self.gate.try_enter(Access::Exclusive);
        Ok(self.write_guard(entered.ok_or(TryLockError::WouldBlock)?)?)
    }

    #[track_caller]
    fn held_for_reading(&self, entered: Entered) -> (HeldForReading<'_, T>, bool) {
        match entered {
            Entered::Here { poisoned } => {
                let value = self.value.read().unwrap_or_else(|e| e.into_inner());
                (HeldForReading::Here(Some(value)), poisoned)
            }
            Entered::There { taken, poisoned } => {
                let token = taken.token;
                let (value, _) = self.decode(taken);
                (HeldForReading::There { token, value }, poisoned)
            }
        }
    }

    #[track_caller]
    fn write_guard(&self, entered: Entered) -> LockResult<RwLockWriteGuard<'_, T>> {
        let (held, poisoned) = match entered {
            Entered::Here { poisoned } => (Held::Here(Some(self.for_writing())), poisoned),
            Entered::There { taken, poisoned } => {
                let token = taken.token;
                let (value, lent) = self.decode(taken);
                let held = Held::There {
                    token,
                    value,
                    lent,
                    changed: false,
                };
                (held, poisoned)
            }
        };
        let panicked = std::thread::panicking();
        let lock = self;
        guard(
            RwLockWriteGuard {
                lock,
                held,
                panicked,
            },
            poisoned,
        )
    }

    #[track_caller]
    fn decode(&self, taken: Taken) -> (Option<T>, Lent) {
        let decode = || taken.value.map(|bytes| self.codec().decode(&bytes));
        let decode = || Lent::decode(decode);
        self.gate.or_give_back(taken.token, false, decode)
    }

    fn codec(&self) -> &Codec<T> {
        let codec = self.codec.get();
        codec.expect("whoever shares the lock sets it before")
    }

    /// Whether a thread panicked while it wrote, or died for good.
    #[track_caller]
    pub fn is_poisoned(&self) -> bool {
        self.gate.is_poisoned()
    }

    /// Forgets that.
    #[track_caller]
    pub fn clear_poison(&self) {
        self.gate.clear_poison();
    }

    fn come_home(&mut self) {
        let codec = self.codec.get();
        let decode = |bytes: &[u8]| codec.map(|codec| codec.decode(bytes));
        if let Some(value) = self.gate.come_home(decode).flatten() {
            *self.value.get_mut().unwrap_or_else(|e| e.into_inner()) = Some(value);
        }
    }

    /// The value, which no other thread can see now. A shared one becomes local again.
    ///
    /// # Errors
    ///
    /// The value, if the lock is poisoned.
    #[track_caller]
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.come_home();
        let poisoned = self.gate.is_poisoned();
        let value = self.value.get_mut().unwrap_or_else(|e| e.into_inner());
        guard(value.as_mut().expect("it has come home"), poisoned)
    }

    /// The value.
    ///
    /// # Errors
    ///
    /// The value, if the lock is poisoned.
    #[track_caller]
    pub fn into_inner(mut self) -> LockResult<T> {
        self.come_home();
        let poisoned = self.gate.is_poisoned();
        let value = self.value.into_inner().unwrap_or_else(|e| e.into_inner());
        guard(value.expect("it has come home"), poisoned)
    }
}

fn guard<G>(guard: G, poisoned: bool) -> LockResult<G> {
    match poisoned {
        true => Err(PoisonError::new(guard)),
        false => Ok(guard),
    }
}

/// A value that is locked for reading.
#[must_use = "the lock is given back when this is dropped"]
pub struct RwLockReadGuard<'a, T> {
    lock: &'a RwLock<T>,
    held: HeldForReading<'a, T>,
}

enum HeldForReading<'a, T> {
    /// `None` while it is dropped.
    Here(Option<local::RwLockReadGuard<'a, Option<T>>>),
    There {
        token: u64,
        value: Option<T>,
    },
}

impl<T> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        let value = match &self.held {
            HeldForReading::Here(value) => value.as_ref().and_then(|value| value.as_ref()),
            HeldForReading::There { value, .. } => value.as_ref(),
        };
        value.expect("whoever had the lock before has brought the value")
    }
}

impl<T> Drop for RwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        let gate = &self.lock.gate;
        report(match &mut self.held {
            HeldForReading::Here(value) => {
                *value = None;
                let mut old = None;
                let given_back = gate.leave_here(Access::Reading, false, || {
                    // The object has the value.
                    old = self.lock.for_writing().take();
                    Ok(None)
                });
                drop(old);
                given_back
            }
            HeldForReading::There { token, .. } => gate.leave_there(*token, false, || Ok(None)),
        });
    }
}

/// A value that is locked for writing.
#[must_use = "the lock is given back when this is dropped"]
pub struct RwLockWriteGuard<'a, T> {
    lock: &'a RwLock<T>,
    held: Held<'a, T>,
    panicked: bool,
}

enum Held<'a, T> {
    /// `None` while it is dropped.
    Here(Option<local::RwLockWriteGuard<'a, Option<T>>>),
    There {
        token: u64,
        value: Option<T>,
        lent: Lent,
        changed: bool,
    },
}

impl<T> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        let value = match &self.held {
            Held::Here(value) => value.as_ref().and_then(|value| value.as_ref()),
            Held::There { value, .. } => value.as_ref(),
        };
        value.expect("whoever had the lock before has brought the value")
    }
}

impl<T> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        let value = match &mut self.held {
            Held::Here(value) => value.as_mut().and_then(|value| value.as_mut()),
            Held::There {
                value,
                lent,
                changed,
                ..
            } => {
                *changed = true;
                lent.set(false);
                value.as_mut()
            }
        };
        value.expect("whoever had the lock before has brought the value")
    }
}

impl<T> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        let End { poison, writes } = End::now(self.panicked);
        let gate = &self.lock.gate;
        let given_back = match &mut self.held {
            Held::Here(value) => {
                let mut value = value.take();
                let mut old = None;
                let given_back = gate.leave_here(Access::Exclusive, poison, || match &mut value {
                    Some(value) => bring(self.lock.codec(), value, &mut old),
                    None => Ok(None),
                });
                drop(value);
                drop(old);
                given_back
            }
            Held::There {
                token,
                value,
                lent,
                changed,
            } => {
                let is_written = *changed && writes;
                let value = value.as_ref().filter(|_| is_written);
                let given_back = gate.leave_there(*token, poison, || {
                    let value = value.map(|value| self.lock.codec().try_encode(value));
                    value.transpose()
                });
                lent.set(!is_written || given_back.is_err());
                given_back
            }
        };
        report(given_back);
    }
}

impl<T: fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> RwLock<T> {
        RwLock::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> RwLock<T> {
        RwLock::new(value)
    }
}

impl<T: fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RwLock");
        match self.try_read() {
            Ok(value) => debug.field("data", &&*value),
            Err(TryLockError::Poisoned(poisoned)) => debug.field("data", &&**poisoned.get_ref()),
            Err(TryLockError::WouldBlock) => debug.field("data", &format_args!("<locked>")),
        };
        debug.finish_non_exhaustive()
    }
}

/// Shares it, and encodes the handle.
impl<T: Serialize + DeserializeOwned> Serialize for RwLock<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let codec = self.codec.get_or_init(Codec::new);
        let value = || {
            let value = self.value.read().unwrap_or_else(|e| e.into_inner());
            let value = value.as_ref().expect("a local lock has its value");
            codec.encode_with_holds(value)
        };
        let (remote, is_out_of_use) = self.gate.share(value);
        if is_out_of_use {
            let old = self.for_writing().take();
            drop(old);
        }
        remote.serialize(serializer)
    }
}

impl<'de, T: Serialize + DeserializeOwned> Deserialize<'de> for RwLock<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RwLock<T>, D::Error> {
        Ok(RwLock {
            gate: Gate::to(Remote::deserialize(deserializer)?),
            codec: OnceLock::from(Codec::new()),
            value: local::RwLock::new(None),
        })
    }
}
