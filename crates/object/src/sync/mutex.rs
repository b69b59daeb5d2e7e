//! A mutex with the data in it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::task::Poll;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::line::Line;
use crate::opaque::sealed;
use crate::valid::is_new;
use crate::{Element, Error, Opaque, Proxy, Result, SessionId, Shared, Wake, shared};

/// A value that one thread at a time may change, as [`std::sync::Mutex`]: locking brings the value here,
/// and unlocking sends it back if it was changed.
///
/// It is fair: threads get it in the order in which they asked.
///
/// A call of a `#[shared]` method of your own type is one message, and holds nothing: prefer it where the
/// change can be made on the server. A mutex is for changes that cannot, and costs two messages.
///
/// # When the holder dies
///
/// The lock belongs to the process (the session) that took it. When that dies, the lock passes on once its
/// lease has lapsed, with the value as it was before. A cloud thread that is retried or cancelled loses at once
/// what its earlier attempt had locked. So there is no poison. A holder that was taken for dead and is not
/// (it was silent for longer than its lease) gets [`Error::LockLost`] when it unlocks: its value is not written
/// back. Its [token](MutexGuard::token) lets other systems, too, tell it from later holders.
///
/// ```
/// use std::time::Duration;
///
/// use crucial::Shared;
/// use crucial::sync::Mutex;
///
/// let words = Shared::new(Mutex::new(vec!["one".to_owned()]))?;
/// let mut guard = words.lock()?; // one message, with the value
/// guard.push("two".to_owned());
/// assert!(words.try_lock()?.is_none() && words.lock_timeout(Duration::ZERO)?.is_none());
/// drop(guard); // one message, with the value if it was changed
/// assert_eq!(words.lock()?.len(), 2);
/// assert_eq!(words.get()?, ["one", "two"]); // as it was when it was last unlocked, at once
/// assert_eq!(words.lock()?.into_inner()?, ["one", "two"]);
/// # Ok::<(), crucial::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "T: Element")]
#[doc(alias("ReentrantLock", "Lock"))]
pub struct Mutex<T> {
    #[serde(with = "sealed::one")]
    value: T,
    holder: Option<Holder>,
    line: Line<()>,
    /// The next fencing token.
    token: u64,
}

/// The session that has a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    pub session: SessionId,
    pub token: u64,
}

impl<T> Mutex<T> {
    /// An unlocked mutex with this value.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex {
            value,
            holder: None,
            line: Line::new(),
            token: 1,
        }
    }

    fn leave(&mut self, place: u64) {
        self.line.leave(place);
    }
}

#[shared(name = "crucial::Mutex", crate = crate)]
impl<T: Clone> Mutex<T> {
    /// Nobody has the lock or waits for it.
    #[valid]
    fn valid(&self) -> Result<(), String> {
        is_new(self.holder.is_none(), "no holder")?;
        is_new(self.line.is_new(), "nobody who waits")?;
        is_new(self.token == 1, "token 1")
    }

    /// Takes the lock: its token, and the value.
    fn acquire(
        &mut self,
        #[caller] caller: SessionId,
        #[ticket(cancel = Self::leave)] place: &mut Option<u64>,
    ) -> Poll<(u64, T)> {
        if self.holder.is_some() || !self.line.is_first(*place) {
            self.line.join(place, ());
            return Poll::Pending;
        }
        if let Some(place) = *place {
            self.line.leave(place);
        }
        let token = self.token;
        self.token += 1;
        self.holder = Some(Holder {
            session: caller,
            token,
        });
        Poll::Ready((token, self.value.clone()))
    }

    /// Takes the lock if nobody has it or waits for it.
    fn try_acquire(&mut self, #[caller] caller: SessionId) -> Option<(u64, T)> {
        if self.is_locked() || !self.line.is_empty() {
            return None;
        }
        match self.acquire(caller, &mut None) {
            Poll::Ready(taken) => Some(taken),
            Poll::Pending => None,
        }
    }

    /// Gives the lock back, with a new value if it was changed.
    #[fallible]
    fn release(&mut self, token: u64, value: Option<T>) -> Result<()> {
        if self.holder.is_none_or(|holder| holder.token != token) {
            return Err(Error::LockLost { token });
        }
        if let Some(value) = value {
            self.value = value;
        }
        self.holder = None;
        Ok(())
    }

    /// The value, without the lock: as it was when it was last unlocked.
    pub fn get(&self) -> T {
        self.value.clone()
    }

    /// Whether somebody has the lock.
    pub fn is_locked(&self) -> bool {
        self.holder.is_some()
    }

    /// Whether the holder of this token has the lock still.
    pub fn is_held_by(&self, token: u64) -> bool {
        self.holder.is_some_and(|holder| holder.token == token)
    }

    /// How many threads wait for the lock.
    pub fn waiting(&self) -> u64 {
        self.line.len()
    }

    /// They get it in order.
    #[wake]
    fn wake(&self) -> Wake {
        if self.is_locked() {
            Wake::None
        } else {
            Wake::First
        }
    }

    /// The lock passes on.
    #[departed]
    fn departed(&mut self, session: SessionId) {
        self.holder = self.holder.filter(|holder| holder.session != session);
    }
}

impl<T: Element + 'static> Shared<Mutex<T>> {
    /// Takes the lock; blocks until it is free. The guard gives it back.
    ///
    /// # Errors
    ///
    /// [`Error::Encoding`] if the value is not a `T`: then the lock is given back.
    pub fn lock(&self) -> Result<MutexGuard<T>> {
        self.guard(self.sealed().acquire()?)
    }

    /// Takes the lock if nobody has it or waits for it.
    pub fn try_lock(&self) -> Result<Option<MutexGuard<T>>> {
        let taken = self.sealed().try_acquire()?;
        taken.map(|taken| self.guard(taken)).transpose()
    }

    /// Takes the lock within `timeout`; `None` if that was not possible.
    pub fn lock_timeout(&self, timeout: Duration) -> Result<Option<MutexGuard<T>>> {
        match self.with_timeout(timeout).sealed().acquire() {
            Ok(taken) => self.guard(taken).map(Some),
            Err(Error::TimedOut { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same mutex, for a caller that takes the lock first and reads the value then: a value that cannot
    /// be read must not keep the lock.
    fn sealed(&self) -> MutexProxy<Opaque> {
        MutexProxy::new(self.target().clone())
    }

    fn guard(&self, (token, value): (u64, Opaque)) -> Result<MutexGuard<T>> {
        Ok(MutexGuard {
            mutex: self.clone(),
            token,
            value: Some(super::unseal(&value, || self.release(token, None))?),
            changed: false,
            released: false,
        })
    }
}

/// The invariant of a guard.
pub(super) const HAS_VALUE: &str = "only the method that ends the guard takes its value";

/// A locked mutex's value. It is written back when the guard is dropped, if it was borrowed mutably; not
/// if the thread panics.
#[must_use = "the lock is given back when this is dropped"]
pub struct MutexGuard<T: Element + 'static> {
    mutex: Shared<Mutex<T>>,
    token: u64,
    /// Until [`into_inner`](MutexGuard::into_inner) takes it.
    value: Option<T>,
    changed: bool,
    released: bool,
}

impl<T: Element + 'static> MutexGuard<T> {
    /// The fencing token: higher than that of all who held the lock before.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// The mutex.
    pub fn mutex(&self) -> &Shared<Mutex<T>> {
        &self.mutex
    }

    /// Writes the value back and gives the lock back, as dropping the guard does, and tells whether that
    /// was possible.
    ///
    /// # Errors
    ///
    /// [`Error::LockLost`] if this process was taken for dead and the lock has passed on: then the value is
    /// not written. [`Error::Encoding`] or [`Error::LimitExceeded`] if the value cannot be sent: the lock is
    /// given back, with the value as it was.
    pub fn unlock(mut self) -> Result<()> {
        self.give_back()
    }

    /// Gives the lock back as [`unlock`](MutexGuard::unlock) does, and keeps the value here.
    ///
    /// # Errors
    ///
    /// Those of [`unlock`](MutexGuard::unlock).
    pub fn into_inner(mut self) -> Result<T> {
        self.give_back()?;
        Ok(self.value.take().expect(HAS_VALUE))
    }

    fn give_back(&mut self) -> Result<()> {
        self.released = true;
        // A thread that panics has perhaps changed half of it.
        let write = self.changed && !std::thread::panicking();
        let mutex = self.mutex.sealed();
        super::give_back(self.value.as_ref().filter(|_| write), |value| {
            mutex.release(self.token, value)
        })
    }
}

impl<T: Element + 'static> Deref for MutexGuard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect(HAS_VALUE)
    }
}

impl<T: Element + 'static> DerefMut for MutexGuard<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.changed = true;
        self.value.as_mut().expect(HAS_VALUE)
    }
}

impl<T: Element + 'static> Drop for MutexGuard<T> {
    fn drop(&mut self) {
        if !self.released
            && let Err(error) = self.give_back()
        {
            super::report("a lock", &error);
        }
    }
}

impl<T: Element + fmt::Debug + 'static> fmt::Debug for MutexGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

impl<T: Element + fmt::Display + 'static> fmt::Display for MutexGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}
