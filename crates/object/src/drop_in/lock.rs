//! The lock behind a `Mutex` or an `RwLock`.

use std::task::Poll;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::sync::line::Line;
use crate::valid::is_new;
use crate::{Error, Result, SessionId, Wake, shared};

/// A value behind a lock, for one holder or for several that only read. It is fair.
///
/// It becomes poisoned as the locks of std: by a holder that panicked, or by one that died and is not started again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lock {
    /// `None`: the holder has the value, and no other has had it yet.
    value: Option<ByteBuf>,
    poisoned: bool,
    holders: Vec<Holder>,
    /// Whether each of those who wait wants the lock for itself.
    line: Line<bool>,
    /// The next token.
    token: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Holder {
    session: SessionId,
    token: u64,
    exclusive: bool,
    /// Nobody goes on in its place if it dies.
    is_last: bool,
}

/// What a caller wants.
#[derive(Clone, Copy)]
struct Request {
    session: SessionId,
    exclusive: bool,
    is_last: bool,
}

type Taken = (u64, Option<ByteBuf>, bool);

impl Lock {
    /// A free lock.
    pub const fn new(value: Option<ByteBuf>, poisoned: bool) -> Lock {
        Lock {
            value,
            poisoned,
            holders: Vec::new(),
            line: Line::new(),
            token: 1,
        }
    }

    fn leave(&mut self, place: u64) {
        self.line.leave(place);
    }

    fn is_free_for(&self, exclusive: bool) -> bool {
        match exclusive {
            true => self.holders.is_empty(),
            false => self.holders.iter().all(|holder| !holder.exclusive),
        }
    }

    fn take(&mut self, request: Request) -> Taken {
        let token = self.token;
        self.token += 1;
        self.holders.push(Holder {
            session: request.session,
            token,
            exclusive: request.exclusive,
            is_last: request.is_last,
        });
        (token, self.value.clone(), self.poisoned)
    }
}

#[shared(name = "crucial::Lock", crate = crate)]
impl Lock {
    /// Nobody has the lock or waits for it.
    #[valid]
    fn valid(&self) -> Result<(), String> {
        is_new(self.holders.is_empty(), "no holder")?;
        is_new(self.line.is_new(), "nobody who waits")?;
        is_new(self.token == 1, "token 1")
    }

    /// Takes the lock: its token, the value, and whether it is poisoned. `is_last`: nobody goes on in the caller's place if
    /// it dies.
    pub fn acquire(
        &mut self,
        exclusive: bool,
        is_last: bool,
        #[caller] session: SessionId,
        #[ticket(cancel = Self::leave)] place: &mut Option<u64>,
    ) -> Poll<(u64, Option<ByteBuf>, bool)> {
        if !self.is_free_for(exclusive) || !self.line.is_first(*place) {
            self.line.join(place, exclusive);
            return Poll::Pending;
        }
        if let Some(place) = *place {
            self.line.leave(place);
        }
        Poll::Ready(self.take(Request {
            session,
            exclusive,
            is_last,
        }))
    }

    /// Takes the lock if it is free and nobody waits for it.
    pub fn try_acquire(
        &mut self,
        exclusive: bool,
        is_last: bool,
        #[caller] session: SessionId,
    ) -> Option<(u64, Option<ByteBuf>, bool)> {
        let free = self.is_free_for(exclusive) && self.line.is_empty();
        free.then(|| {
            self.take(Request {
                session,
                exclusive,
                is_last,
            })
        })
    }

    /// Gives the lock back, with a new value if it was changed, and poisoned if the holder panicked.
    #[fallible]
    pub fn release(&mut self, token: u64, value: Option<ByteBuf>, poison: bool) -> Result<()> {
        let place = self.holders.iter().position(|h| h.token == token);
        let Some(place) = place else {
            return Err(Error::LockLost { token });
        };
        let holder = self.holders.remove(place);
        if holder.exclusive {
            self.poisoned |= poison;
            if value.is_some() {
                self.value = value;
            }
        }
        Ok(())
    }

    /// Whether a holder panicked or died.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Forgets that a holder panicked or died.
    pub fn forget_poison(&mut self) {
        self.poisoned = false;
    }

    /// They get it in order.
    #[wake]
    fn wake(&self) -> Wake {
        match self.line.first() {
            Some(exclusive) if self.is_free_for(*exclusive) => Wake::First,
            _ => Wake::None,
        }
    }

    /// The lock passes on, with the value from before.
    #[departed]
    fn departed(&mut self, session: SessionId) {
        let died = |holder: &Holder| holder.session == session;
        let poisons = |holder: &Holder| died(holder) && holder.exclusive && holder.is_last;
        self.poisoned |= self.holders.iter().any(poisons);
        self.holders.retain(|holder| !died(holder));
    }
}
