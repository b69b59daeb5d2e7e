//! The holders of a locked value: the common part of `Mutex` and `RwLock`.

use crucial_object::drop_in::Lock;
use crucial_object::held::{self, Holds};
use crucial_object::{Error, Result};
use serde_bytes::ByteBuf;

use crate::codec::Codec;
use crate::cycle;
use crate::local::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use crate::remote::{Remote, must};

/// A lock without its value, local or shared.
pub(crate) struct Gate {
    hub: Mutex<Hub>,
    freed: Condvar,
    remote: OnceLock<Arc<Remote<Lock>>>,
}

struct Hub {
    /// The holders in this process.
    readers: usize,
    writer: bool,
    poisoned: bool,
    /// The lock was shared while it was held here: the token by which the local holders have it at the object.
    pending: Option<u64>,
}

/// A shared lock that is held.
pub(crate) struct Taken {
    pub token: u64,
    /// `None`: the first holder is still to bring the value.
    pub value: Option<ByteBuf>,
}

/// How a lock was taken, and whether it is poisoned.
pub(crate) enum Entered {
    Here { poisoned: bool },
    There { taken: Taken, poisoned: bool },
}

/// Whether somebody else may have the lock as well.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Exclusive,
    Reading,
}

impl Access {
    fn is_exclusive(self) -> bool {
        self == Access::Exclusive
    }
}

impl Gate {
    pub const fn new() -> Gate {
        Gate {
            hub: Mutex::new(Hub {
                readers: 0,
                writer: false,
                poisoned: false,
                pending: None,
            }),
            freed: Condvar::new(),
            remote: OnceLock::new(),
        }
    }

    /// One that is shared already.
    pub fn to(remote: Arc<Remote<Lock>>) -> Gate {
        Gate {
            remote: OnceLock::from(remote),
            ..Gate::new()
        }
    }

    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Takes the lock; blocks until it is free.
    #[track_caller]
    pub fn enter(&self, access: Access) -> Entered {
        if let Some(refusal) = held::refusal_to_wait("a lock") {
            panic!("{refusal}");
        }
        let mut hub = self.hub();
        loop {
            if let Some(remote) = self.remote.get() {
                // Whoever has it here has it at the object as well.
                drop(hub);
                let remote = remote.object();
                let (token, value, poisoned) =
                    must(remote.acquire(access.is_exclusive(), held::is_last_attempt()));
                let taken = Taken { token, value };
                return Entered::There { taken, poisoned };
            }
            if hub.take(access) {
                let poisoned = hub.poisoned;
                return Entered::Here { poisoned };
            }
            hub = self.freed.wait(hub).unwrap_or_else(|e| e.into_inner());
        }
    }

    /// Takes the lock if it is free.
    #[track_caller]
    pub fn try_enter(&self, access: Access) -> Option<Entered> {
        let mut hub = self.hub();
        match self.remote.get() {
            Some(remote) => {
                drop(hub);
                let taken = remote
                    .object()
                    .try_acquire(access.is_exclusive(), held::is_last_attempt());
                let (token, value, poisoned) = must(taken)?;
                let taken = Taken { token, value };
                Some(Entered::There { taken, poisoned })
            }
            None => hub.take(access).then(|| Entered::Here {
                poisoned: hub.poisoned,
            }),
        }
    }

    /// Gives back what was taken here. The last holder is asked for the `value` if the lock was shared meanwhile.
    pub fn leave_here(
        &self,
        access: Access,
        poison: bool,
        value: impl FnOnce() -> Result<Option<ByteBuf>>,
    ) -> Result<()> {
        let mut hub = self.hub();
        match access {
            Access::Exclusive => hub.writer = false,
            Access::Reading => hub.readers -= 1,
        }
        hub.poisoned |= poison;
        let pending = match hub.readers {
            0 => hub.pending.take(),
            _ => None,
        };
        drop(hub);
        self.freed.notify_all();
        match pending {
            Some(token) => self.leave_there(token, poison, value),
            None => Ok(()),
        }
    }

    /// Gives back what was taken at the object, with a new value. Without it, and poisoned, if that cannot be sent: a lock
    /// must not stay held for as long as this process lives.
    pub fn leave_there(
        &self,
        token: u64,
        poison: bool,
        value: impl FnOnce() -> Result<Option<ByteBuf>>,
    ) -> Result<()> {
        let Some(remote) = self.remote.get() else {
            return Ok(());
        };
        let object = remote.object();
        let value = match self.or_give_back(token, true, value) {
            Ok(value) => value,
            Err(error) => {
                object.release(token, None, true)?;
                return Err(error);
            }
        };
        let given_back = object.release(token, value, poison);
        if let Err(Error::Encoding { .. } | Error::LimitExceeded { .. }) = &given_back {
            object.release(token, None, true)?;
        }
        given_back
    }

    /// Runs code of the value's type, and gives back what was taken at the object if that panics.
    pub fn or_give_back<R>(&self, token: u64, poison: bool, run: impl FnOnce() -> R) -> R {
        struct GiveBack<'a>(&'a Gate, u64, bool);
        impl Drop for GiveBack<'_> {
            fn drop(&mut self) {
                let GiveBack(gate, token, poison) = self;
                if let Some(remote) = gate.remote.get()
                    && let Err(error) = remote.object().release(*token, None, *poison)
                {
                    eprintln!("crucial: a lock could not be given back: {error}");
                }
            }
        }
        let give_back = GiveBack(self, token, poison);
        let result = run();
        std::mem::forget(give_back);
        result
    }

    /// Shares the lock, if it is not shared yet. `value` encodes what is behind it, and is not asked while a holder may
    /// change that. Gives also whether the value here is out of use from now on: otherwise the last holder ends it.
    pub fn share(&self, value: impl FnOnce() -> (ByteBuf, Holds)) -> (&Arc<Remote<Lock>>, bool) {
        match self.remote.get() {
            Some(remote) => (remote, false),
            None => cycle::sharing(self, || self.share_now(value)),
        }
    }

    fn share_now(&self, value: impl FnOnce() -> (ByteBuf, Holds)) -> (&Arc<Remote<Lock>>, bool) {
        let mut hub = self.hub();
        if let Some(remote) = self.remote.get() {
            return (remote, false);
        }
        let (value, stored) = (!hub.writer).then(value).unzip();
        let lock = Lock::new(value, hub.poisoned);
        let remote = Remote::with_stored(lock, stored.unwrap_or_default());
        let is_held = hub.writer || hub.readers > 0;
        if is_held {
            let taken = must(remote.object().try_acquire(hub.writer, true));
            hub.pending = taken.map(|(token, ..)| token);
        }
        let remote = self.remote.get_or_init(|| remote);
        drop(hub);
        // Whoever waits here waits at the object from now on.
        self.freed.notify_all();
        (remote, !is_held)
    }

    /// Whether a holder panicked, or died for good.
    pub fn is_poisoned(&self) -> bool {
        match self.remote.get() {
            Some(remote) => must(remote.object().is_poisoned()),
            None => self.hub().poisoned,
        }
    }

    /// Forgets that a holder panicked or died.
    pub fn clear_poison(&self) {
        self.hub().poisoned = false;
        if let Some(remote) = self.remote.get() {
            must(remote.object().forget_poison());
        }
    }

    /// Makes the lock a local one again, which no other thread can see now; the decoded value, if it was shared. What is in
    /// the value lives as long as the object, so it is decoded before that goes.
    pub fn come_home<T>(&mut self, decode: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let remote = self.remote.take()?;
        let (token, value, poisoned) = must(remote.object().acquire(true, true));
        must(remote.object().release(token, None, false));
        let hub = self.hub.get_mut().unwrap_or_else(|e| e.into_inner());
        hub.poisoned = poisoned;
        value.map(|bytes| decode(&bytes))
    }
}

/// What a guard that is dropped does to its lock.
pub(crate) struct End {
    /// Its thread panics, and is not started again.
    pub poison: bool,
    /// Its value is written.
    pub writes: bool,
}

impl End {
    /// `panicked`: the thread was panicking already when the guard was made.
    pub fn now(panicked: bool) -> End {
        let panics = std::thread::panicking() && !panicked;
        End {
            poison: panics && held::is_last_attempt(),
            writes: !panics || held::is_last_attempt(),
        }
    }
}

/// Reports that a guard's value was lost.
///
/// # Panics
///
/// Unless the thread panics already.
#[track_caller]
pub(crate) fn report(given_back: Result<()>) {
    match given_back {
        Ok(()) => {}
        // Whoever was fenced, or shut down, holds nothing any more.
        Err(Error::Fenced | Error::Cancelled) => {}
        Err(error) if std::thread::panicking() => {
            eprintln!("crucial: a lock could not be given back: {error}");
        }
        Err(error) => panic!("a lock could not be given back: {error}"),
    }
}

impl Hub {
    fn take(&mut self, access: Access) -> bool {
        let free = !self.writer && (access == Access::Reading || self.readers == 0);
        match access {
            _ if !free => {}
            Access::Exclusive => self.writer = true,
            Access::Reading => self.readers += 1,
        }
        free
    }
}

/// Encodes the value of a lock that was shared while it was held here, and takes it out: it is the object's from now on.
pub(crate) fn bring<T>(
    codec: &Codec<T>,
    value: &mut Option<T>,
    out: &mut Option<T>,
) -> Result<Option<ByteBuf>> {
    let bytes = value.as_ref().map(|value| codec.try_encode(value));
    let bytes = bytes.transpose()?;
    *out = value.take();
    Ok(bytes)
}
