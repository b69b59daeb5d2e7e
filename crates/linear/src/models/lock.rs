//! Mutual exclusion with fencing tokens.

use crate::Model;

/// A lock. Each time it is taken it gives a *fencing token*, greater than all before; who holds it
/// shows the token to release it.
///
/// A lock whose lease lapsed is one that somebody else released: record an
/// [`Unlock`](LockInput::Unlock) without an answer for each lease that may have lapsed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lock;

/// A method of [`Lock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockInput {
    /// Takes the lock; waits until it is free.
    Lock,
    /// Takes the lock if it is free.
    TryLock,
    /// Releases the lock, if the token is that of the holder.
    Unlock {
        /// What `Lock` or `TryLock` gave.
        token: u64,
    },
}

/// A result of [`Lock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockOutput {
    /// The lock was taken; its token.
    Locked(u64),
    /// Of `TryLock`: somebody holds it.
    Busy,
    /// Of `Unlock`: it is free now.
    Unlocked,
    /// Of `Unlock`: the token is not that of a holder.
    NotHeld,
}

/// Who holds a [`Lock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// Nobody.
    Nobody,
    /// The one with this token.
    Token(u64),
    /// Somebody whose token was never seen. It is [`LockState::last`] or greater.
    Unseen,
}

/// The state of a [`Lock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LockState {
    /// Who holds it.
    pub holder: Holder,
    /// The greatest token there was, or, after one that was not seen, the least it can be; `None`
    /// if there was none.
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
            // A holder whose answer was lost may have learnt its token in another way.
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
