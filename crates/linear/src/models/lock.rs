//! Mutual exclusion with fencing tokens.

use crate::Model;

/// A lock. Each acquisition returns a *fencing token* greater than all before; the holder presents the token to
/// release the lock.
///
/// An expired lease counts as a release by another process: record an [`Unlock`](LockInput::Unlock) without an
/// answer for each lease that may have expired.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lock;

/// A method of [`Lock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockInput {
    /// Acquires the lock; waits until it is free.
    Lock,
    /// Acquires the lock if it is free.
    TryLock,
    /// Releases the lock, if the token is the holder's.
    Unlock {
        /// The token that `Lock` or `TryLock` returned.
        token: u64,
    },
}

/// A result of [`Lock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockOutput {
    /// The lock was acquired, with this token.
    Locked(u64),
    /// The result of `TryLock` if the lock is held.
    Busy,
    /// The result of `Unlock` if the lock was released.
    Unlocked,
    /// The result of `Unlock` if the token is not the holder's.
    NotHeld,
}

/// The holder of a [`Lock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// The lock is free.
    Nobody,
    /// The holder has this token.
    Token(u64),
    /// The holder's token is unknown: it is [`LockState::last`] or greater.
    Unseen,
}

/// The state of a [`Lock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LockState {
    /// The lock's holder.
    pub holder: Holder,
    /// The greatest token so far. If the last token is unknown, its least possible value. `None` before the first
    /// acquisition.
    pub last: Option<u64>,
}

impl LockState {
    fn lock(self, token: Option<u64>) -> Option<LockState> {
        if self.holder != Holder::Nobody {
            return None;
        }
        let least = match self.last {
            Some(last) => last.checked_add(1)?,
            None => 0,
        };
        let (holder, last) = match token {
            Some(token) if token < least => return None,
            Some(token) => (Holder::Token(token), token),
            None => (Holder::Unseen, least),
        };
        Some(LockState {
            holder,
            last: Some(last),
        })
    }

    fn unlock(self, token: u64) -> Option<LockState> {
        let last = match self.holder {
            Holder::Token(held) if held == token => self.last,
            // A holder that did not receive its answer may have learnt its token in another way.
            Holder::Unseen if self.last <= Some(token) => Some(token),
            Holder::Nobody | Holder::Token(_) | Holder::Unseen => return None,
        };
        Some(LockState {
            holder: Holder::Nobody,
            last,
        })
    }
}

impl Model for Lock {
    type State = LockState;
    type Input = LockInput;
    type Output = LockOutput;

    fn init(&self) -> LockState {
        LockState {
            holder: Holder::Nobody,
            last: None,
        }
    }

    fn step(
        &self,
        state: &LockState,
        input: &LockInput,
        output: Option<&LockOutput>,
    ) -> Option<LockState> {
        use LockInput::{Lock, TryLock, Unlock};
        use LockOutput::{Busy, Locked, NotHeld, Unlocked};

        match (*input, output) {
            (Lock | TryLock, Some(&Locked(token))) => state.lock(Some(token)),
            (Lock, None) => state.lock(None),
            (TryLock, None) => state.lock(None).or(Some(*state)),
            (TryLock, Some(Busy)) => (state.holder != Holder::Nobody).then_some(*state),
            (Unlock { token }, Some(Unlocked)) => state.unlock(token),
            (Unlock { token }, None) => state.unlock(token).or(Some(*state)),
            (Unlock { token }, Some(NotHeld)) => {
                (state.holder != Holder::Token(token)).then_some(*state)
            }
            (Lock, Some(Busy | Unlocked | NotHeld))
            | (TryLock, Some(Unlocked | NotHeld))
            | (Unlock { .. }, Some(Locked(_) | Busy)) => None,
        }
    }
}
