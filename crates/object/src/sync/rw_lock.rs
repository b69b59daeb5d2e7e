//! A lock for many readers or one writer, with the data in it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::task::Poll;

use serde::{Deserialize, Serialize};

use super::line::Line;
use super::mutex::{HAS_VALUE, Holder};
use crate::opaque::sealed;
use crate::valid::is_new;
use crate::{Element, Error, Opaque, Proxy, Result, SessionId, Shared, Wake, shared};

/// A value that many threads may read, or one change, as [`std::sync::RwLock`].
///
/// It is fair: requests are served in order, so that readers who come later do not overtake a writer. A holder
/// that dies loses the lock as with a [`Mutex`](super::Mutex).
///
/// To read a value as it is at one moment no lock is needed: [`get`](RwLock::get) is one message. A read
/// lock keeps writers away until it is dropped.
///
/// ```
/// use crucial::Shared;
/// use crucial::sync::RwLock;
///
/// let rate = Shared::new(RwLock::new(1.5))?;
/// {
///     let (one, other) = (rate.read()?, rate.read()?);
///     assert_eq!(*one, *other);
///     assert!(rate.try_write()?.is_none());
/// }
/// *rate.write()? = 2.5;
/// assert_eq!(rate.get()?, 2.5);
/// # Ok::<(), crucial::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "T: Element")]
#[doc(alias = "ReadWriteLock")]
pub struct RwLock<T> {
    #[serde(with = "sealed::one")]
    value: T,
    readers: Vec<Holder>,
    writer: Option<Holder>,
    /// The calls that wait, and whether to write.
    line: Line<bool>,
    /// The next fencing token.
    token: u64,
}

impl<T> RwLock<T> {
    /// An unlocked lock with this value.
    pub const fn new(value: T) -> RwLock<T> {
        RwLock {
            value,
            readers: Vec::new(),
            writer: None,
            line: Line::new(),
            token: 1,
        }
    }

    fn leave(&mut self, place: u64) {
        self.line.leave(place);
    }

    fn admits(&self, write: bool) -> bool {
        self.writer.is_none() && (!write || self.readers.is_empty())
    }

    fn admit(&mut self, write: bool, session: SessionId) -> u64 {
        let token = self.token;
        self.token += 1;
        let holder = Holder { session, token };
        if write {
            self.writer = Some(holder);
        } else {
            self.readers.push(holder);
        }
        token
    }
}

#[shared(name = "crucial::RwLock", crate = crate)]
impl<T: Clone> RwLock<T> {
    /// Nobody has the lock or waits for it.
    #[valid]
    fn valid(&self) -> Result<(), String> {
        is_new(
            self.readers.is_empty() && self.writer.is_none(),
            "no holder",
        )?;
        is_new(self.line.is_new(), "nobody who waits")?;
        is_new(self.token == 1, "token 1")
    }

    /// Takes the lock: its token, and the value.
    fn acquire(
        &mut self,
        write: bool,
        #[caller] caller: SessionId,
        #[ticket(cancel = Self::leave)] place: &mut Option<u64>,
    ) -> Poll<(u64, T)> {
        if !self.admits(write) || !self.line.is_first(*place) {
            self.line.join(place, write);
            return Poll::Pending;
        }
        if let Some(place) = *place {
            self.line.leave(place);
        }
        Poll::Ready((self.admit(write, caller), self.value.clone()))
    }

    /// Takes the lock if that is possible at once.
    fn try_acquire(&mut self, write: bool, #[caller] caller: SessionId) -> Option<(u64, T)> {
        let free = self.admits(write) && self.line.is_empty();
        free.then(|| (self.admit(write, caller), self.value.clone()))
    }

    /// Gives the lock back, with a new value if it was changed.
    #[fallible]
    fn release(&mut self, token: u64, value: Option<T>) -> Result<()> {
        if let Some(reader) = self.readers.iter().position(|held| held.token == token) {
            self.readers.remove(reader);
            return Ok(());
        }
        if self.writer.is_none_or(|holder| holder.token != token) {
            return Err(Error::LockLost { token });
        }
        if let Some(value) = value {
            self.value = value;
        }
        self.writer = None;
        Ok(())
    }

    /// The value, without the lock: as it was when a writer last unlocked it.
    pub fn get(&self) -> T {
        self.value.clone()
    }

    /// How many have locked it to read.
    pub fn readers(&self) -> u64 {
        self.readers.len() as u64
    }

    /// Whether somebody has locked it to write.
    pub fn is_writing(&self) -> bool {
        self.writer.is_some()
    }

    /// How many threads wait for the lock.
    pub fn waiting(&self) -> u64 {
        self.line.len()
    }

    /// In order: readers together, a writer alone.
    #[wake]
    fn wake(&self) -> Wake {
        match self.line.first() {
            Some(write) if self.admits(*write) => Wake::First,
            _ => Wake::None,
        }
    }

    /// The locks of the session are free.
    #[departed]
    fn departed(&mut self, session: SessionId) {
        self.readers.retain(|holder| holder.session != session);
        self.writer = self.writer.filter(|holder| holder.session != session);
    }
}

impl<T: Element + 'static> Shared<RwLock<T>> {
    /// Locks to read; blocks while somebody writes, or waits to write.
    ///
    /// # Errors
    ///
    /// [`Error::Encoding`] if the value is not a `T`: then the lock is given back.
    pub fn read(&self) -> Result<RwLockReadGuard<T>> {
        self.reading(self.sealed().acquire(false)?)
    }

    /// Locks to write; blocks until nobody reads or writes.
    ///
    /// # Errors
    ///
    /// [`Error::Encoding`] if the value is not a `T`: then the lock is given back.
    pub fn write(&self) -> Result<RwLockWriteGuard<T>> {
        self.writing(self.sealed().acquire(true)?)
    }

    /// Locks to read if that is possible at once.
    pub fn try_read(&self) -> Result<Option<RwLockReadGuard<T>>> {
        let taken = self.sealed().try_acquire(false)?;
        taken.map(|taken| self.reading(taken)).transpose()
    }

    /// Locks to write if that is possible at once.
    pub fn try_write(&self) -> Result<Option<RwLockWriteGuard<T>>> {
        let taken = self.sealed().try_acquire(true)?;
        taken.map(|taken| self.writing(taken)).transpose()
    }

    /// The same lock, for a caller that takes it first and reads the value then: a value that cannot be
    /// read must not keep the lock.
    fn sealed(&self) -> RwLockProxy<Opaque> {
        RwLockProxy::new(self.target().clone())
    }

    fn reading(&self, (token, value): (u64, Opaque)) -> Result<RwLockReadGuard<T>> {
        let (held, value) = self.held(token, &value)?;
        Ok(RwLockReadGuard { held, value })
    }

    fn writing(&self, (token, value): (u64, Opaque)) -> Result<RwLockWriteGuard<T>> {
        let (held, value) = self.held(token, &value)?;
        Ok(RwLockWriteGuard {
            held,
            value: Some(value),
            changed: false,
        })
    }

    fn held(&self, token: u64, value: &Opaque) -> Result<(HeldLock<T>, T)> {
        let value = super::unseal(value, || self.release(token, None))?;
        let held = HeldLock {
            lock: self.clone(),
            token,
            released: false,
        };
        Ok((held, value))
    }
}

/// A lock that is to be given back.
struct HeldLock<T: Element + 'static> {
    lock: Shared<RwLock<T>>,
    token: u64,
    released: bool,
}

impl<T: Element + 'static> HeldLock<T> {
    fn release(&mut self, value: Option<&T>) -> Result<()> {
        self.released = true;
        let lock = self.lock.sealed();
        super::give_back(value, |value| lock.release(self.token, value))
    }
}

impl<T: Element + 'static> Drop for HeldLock<T> {
    fn drop(&mut self) {
        if !self.released
            && let Err(error) = self.release(None)
        {
            super::report("a lock", &error);
        }
    }
}

/// The value of a lock that is held to read.
#[must_use = "the lock is given back when this is dropped"]
pub struct RwLockReadGuard<T: Element + 'static> {
    held: HeldLock<T>,
    value: T,
}

impl<T: Element + 'static> RwLockReadGuard<T> {
    /// The fencing token.
    pub fn token(&self) -> u64 {
        self.held.token
    }

    /// Gives the lock back, and keeps the value here.
    pub fn into_inner(mut self) -> Result<T> {
        self.held.release(None)?;
        Ok(self.value)
    }
}

impl<T: Element + 'static> Deref for RwLockReadGuard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// The value of a lock that is held to write. It is written back when the guard is dropped, if it was
/// borrowed mutably; not if the thread panics.
#[must_use = "the lock is given back when this is dropped"]
pub struct RwLockWriteGuard<T: Element + 'static> {
    held: HeldLock<T>,
    /// Until [`into_inner`](RwLockWriteGuard::into_inner) takes it.
    value: Option<T>,
    changed: bool,
}

impl<T: Element + 'static> RwLockWriteGuard<T> {
    /// The fencing token: higher than that of all who held the lock before.
    pub fn token(&self) -> u64 {
        self.held.token
    }

    /// Writes the value back and gives the lock back, and tells whether that was possible.
    ///
    /// # Errors
    ///
    /// [`Error::LockLost`] if this process was taken for dead and the lock has passed on. [`Error::Encoding`] or
    /// [`Error::LimitExceeded`] if the value cannot be sent: the lock is given back, with the value as it was.
    pub fn unlock(mut self) -> Result<()> {
        self.give_back()
    }

    /// Gives the lock back as [`unlock`](RwLockWriteGuard::unlock) does, and keeps the value here.
    ///
    /// # Errors
    ///
    /// Those of [`unlock`](RwLockWriteGuard::unlock).
    pub fn into_inner(mut self) -> Result<T> {
        self.give_back()?;
        Ok(self.value.take().expect(HAS_VALUE))
    }

    fn give_back(&mut self) -> Result<()> {
        let write = self.changed && !std::thread::panicking();
        self.held.release(self.value.as_ref().filter(|_| write))
    }
}

impl<T: Element + 'static> Deref for RwLockWriteGuard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect(HAS_VALUE)
    }
}

impl<T: Element + 'static> DerefMut for RwLockWriteGuard<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.changed = true;
        self.value.as_mut().expect(HAS_VALUE)
    }
}

impl<T: Element + 'static> Drop for RwLockWriteGuard<T> {
    fn drop(&mut self) {
        if !self.held.released
            && let Err(error) = self.give_back()
        {
            super::report("a lock", &error);
        }
    }
}

macro_rules! shows_its_value {
    ($guard:ident) => {
        impl<T: Element + fmt::Debug + 'static> fmt::Debug for $guard<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                T::fmt(self, f)
            }
        }

        impl<T: Element + fmt::Display + 'static> fmt::Display for $guard<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                T::fmt(self, f)
            }
        }
    };
}

shows_its_value!(RwLockReadGuard);
shows_its_value!(RwLockWriteGuard);
