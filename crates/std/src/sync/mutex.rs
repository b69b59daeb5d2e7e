//! A mutex that is local until it travels.

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

/// A value for one thread at a time, as [`std::sync::Mutex`]. A shared one brings the value to who locks it, and takes it
/// back if it was borrowed mutably.
///
/// It is poisoned as std's by a thread that panics and is not retried, and by one that dies for good while it holds the
/// lock.
///
/// # Panics
///
/// Operations on a shared one panic with the error's text if the call fails.
pub struct Mutex<T> {
    gate: Gate,
    codec: OnceLock<Codec<T>>,
    /// `None`: the value is at the object.
    value: local::Mutex<Option<T>>,
}

impl<T> Mutex<T> {
    /// An unlocked mutex.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex {
            gate: Gate::new(),
            codec: OnceLock::new(),
            value: local::Mutex::new(Some(value)),
        }
    }

    fn here(&self) -> local::MutexGuard<'_, Option<T>> {
        self.value.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Takes the lock; blocks until it is free.
    ///
    /// # Errors
    ///
    /// The guard, if the mutex is poisoned.
    #[track_caller]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        statics::refuse_in_worker(self, "Mutex");
        self.guard(self.gate.enter(Access::Exclusive))
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    ///
    /// As std's.
    #[track_caller]
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        statics::refuse_in_worker(self, "Mutex");
        match self.gate.try_enter(Access::Exclusive) {
            None => Err(TryLockError::WouldBlock),
            Some(entered) => self.guard(entered).map_err(TryLockError::Poisoned),
        }
    }

    #[track_caller]
    fn guard(&self, entered: Entered) -> LockResult<MutexGuard<'_, T>> {
        let (held, poisoned) = match entered {
            Entered::Here { poisoned } => (Held::Here(Some(self.here())), poisoned),
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
        let guard = MutexGuard {
            mutex: self,
            held,
            panicked: std::thread::panicking(),
        };
        match poisoned {
            true => Err(PoisonError::new(guard)),
            false => Ok(guard),
        }
    }

    fn codec(&self) -> &Codec<T> {
        let codec = self.codec.get();
        codec.expect("whoever shares the mutex sets it before")
    }

    #[track_caller]
    fn decode(&self, taken: Taken) -> (Option<T>, Lent) {
        let decode = || taken.value.map(|bytes| self.codec().decode(&bytes));
        let decode = || Lent::decode(decode);
        self.gate.or_give_back(taken.token, false, decode)
    }

    /// Whether a thread panicked while it held the lock, or died for good.
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
    /// The value, if the mutex is poisoned.
    #[track_caller]
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.come_home();
        let poisoned = self.gate.is_poisoned();
        let value = self.value.get_mut().unwrap_or_else(|e| e.into_inner());
        let value = value.as_mut().expect("it has come home");
        match poisoned {
            true => Err(PoisonError::new(value)),
            false => Ok(value),
        }
    }

    /// The value.
    ///
    /// # Errors
    ///
    /// The value, if the mutex is poisoned.
    #[track_caller]
    pub fn into_inner(mut self) -> LockResult<T> {
        self.come_home();
        let poisoned = self.gate.is_poisoned();
        let value = self.value.into_inner().unwrap_or_else(|e| e.into_inner());
        let value = value.expect("it has come home");
        match poisoned {
            true => Err(PoisonError::new(value)),
            false => Ok(value),
        }
    }
}

/// A locked value. Dropping it unlocks the mutex.
#[must_use = "the mutex is unlocked when this is dropped"]
pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    held: Held<'a, T>,
    panicked: bool,
}

enum Held<'a, T> {
    /// `None` while it is dropped.
    Here(Option<local::MutexGuard<'a, Option<T>>>),
    There {
        token: u64,
        value: Option<T>,
        lent: Lent,
        changed: bool,
    },
}

impl<'a, T> MutexGuard<'a, T> {
    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }

    /// Whether the lock is held at the object.
    pub(super) fn is_there(&self) -> bool {
        matches!(self.held, Held::There { .. })
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        let value = match &self.held {
            Held::Here(value) => value.as_ref().and_then(|value| value.as_ref()),
            Held::There { value, .. } => value.as_ref(),
        };
        value.expect("whoever had the lock before has brought the value")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
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

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        let End { poison, writes } = End::now(self.panicked);
        let gate = &self.mutex.gate;
        let given_back = match &mut self.held {
            Held::Here(value) => {
                let mut value = value.take();
                let mut old = None;
                let given_back = gate.leave_here(Access::Exclusive, poison, || match &mut value {
                    Some(value) => bring(self.mutex.codec(), value, &mut old),
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
                    let value = value.map(|value| self.mutex.codec().try_encode(value));
                    value.transpose()
                });
                lent.set(!is_written || given_back.is_err());
                given_back
            }
        };
        report(given_back);
    }
}

impl<T: fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Mutex<T> {
        Mutex::new(value)
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Mutex");
        match self.try_lock() {
            Ok(value) => debug.field("data", &&*value),
            Err(TryLockError::Poisoned(poisoned)) => debug.field("data", &&**poisoned.get_ref()),
            Err(TryLockError::WouldBlock) => debug.field("data", &format_args!("<locked>")),
        };
        debug.finish_non_exhaustive()
    }
}

/// Shares it, and encodes the handle.
impl<T: Serialize + DeserializeOwned> Serialize for Mutex<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let codec = self.codec.get_or_init(Codec::new);
        let value = || {
            let value = self.here();
            codec.encode_with_holds(value.as_ref().expect("a local mutex has its value"))
        };
        let (remote, is_out_of_use) = self.gate.share(value);
        if is_out_of_use {
            let old = self.here().take();
            drop(old);
        }
        remote.serialize(serializer)
    }
}

impl<'de, T: Serialize + DeserializeOwned> Deserialize<'de> for Mutex<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Mutex<T>, D::Error> {
        Ok(Mutex {
            gate: Gate::to(Remote::deserialize(deserializer)?),
            codec: OnceLock::from(Codec::new()),
            value: local::Mutex::new(None),
        })
    }
}
