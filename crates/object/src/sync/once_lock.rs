//! A value that is computed once.

use std::task::Poll;

use serde::{Deserialize, Serialize};

use super::mutex::Holder;
use crate::opaque::sealed;
use crate::valid::is_new;
use crate::{Element, Error, Opaque, Proxy, Result, SessionId, Shared, Wake, shared};

/// A value that is set once, by the first thread that needs it, as [`std::sync::OnceLock`] (and, with `()`
/// for the value, [`std::sync::Once`]).
///
/// If the thread that computes the value fails or dies (its session's lease lapses), the next one computes it.
///
/// ```
/// use crucial::Shared;
/// use crucial::sync::OnceLock;
///
/// let answer = Shared::new(OnceLock::new())?;
/// assert_eq!(answer.get()?, None);
/// assert_eq!(answer.get_or_init(|| 42)?, 42);
/// assert_eq!(answer.get_or_init(|| unreachable!())?, 42);
/// assert!(!answer.set(7)?);
/// # Ok::<(), crucial::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "T: Element")]
#[doc(alias("Once", "OnceCell", "Lazy"))]
pub struct OnceLock<T> {
    #[serde(with = "sealed::optional")]
    value: Option<T>,
    /// The session that computes the value.
    holder: Option<Holder>,
    /// The next fencing token.
    token: u64,
}

impl<T> OnceLock<T> {
    /// Without a value.
    pub const fn new() -> OnceLock<T> {
        OnceLock {
            value: None,
            holder: None,
            token: 1,
        }
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        OnceLock::new()
    }
}

#[shared(name = "crucial::OnceLock", crate = crate)]
impl<T: Clone> OnceLock<T> {
    /// Nobody computes the value.
    #[valid]
    fn valid(&self) -> Result<(), String> {
        is_new(self.holder.is_none(), "no holder")?;
        is_new(self.token == 1, "token 1")
    }

    /// The value as `Ok`, or the token of who is to compute it as `Err`. Blocks while another does.
    fn turn(&mut self, #[caller] caller: SessionId) -> Poll<Result<T, u64>> {
        if let Some(value) = &self.value {
            return Poll::Ready(Ok(value.clone()));
        }
        if self.holder.is_some() {
            return Poll::Pending;
        }
        let token = self.token;
        self.token += 1;
        self.holder = Some(Holder {
            session: caller,
            token,
        });
        Poll::Ready(Err(token))
    }

    /// Whoever computes the value has it, or (`None`) failed. Returns the value that it is.
    #[fallible]
    fn finish(&mut self, token: u64, value: Option<T>) -> Result<Option<T>> {
        if self.value.is_none() {
            if self.holder.is_none_or(|holder| holder.token != token) {
                return Err(Error::LockLost { token });
            }
            self.holder = None;
            self.value = value;
        }
        Ok(self.value.clone())
    }

    /// The value, if there is one.
    pub fn get(&self) -> Option<T> {
        self.value.clone()
    }

    /// Sets the value, if it is not set yet; whether it did.
    pub fn set(&mut self, value: T) -> bool {
        let first = self.value.is_none();
        self.value.get_or_insert(value);
        first
    }

    /// With a value all go on; without, the first of those who wait computes it.
    #[wake]
    fn wake(&self) -> Wake {
        match (&self.value, self.holder) {
            (Some(_), _) => Wake::All,
            (None, None) => Wake::First,
            (None, Some(_)) => Wake::None,
        }
    }

    /// The next one computes it.
    #[departed]
    fn departed(&mut self, session: SessionId) {
        self.holder = self.holder.filter(|holder| holder.session != session);
    }
}

impl<T: Element + 'static> Shared<OnceLock<T>> {
    /// The value. If it is not set, `compute` makes it, here; others who need it wait meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::Encoding`] if there is a value that is not a `T`, or the new one cannot be sent.
    #[doc(alias("call_once", "get_or_create"))]
    pub fn get_or_init(&self, compute: impl FnOnce() -> T) -> Result<T> {
        self.get_or_try_init(|| Ok(compute()))
    }

    /// The value. If it is not set, `compute` makes it, here; if that fails, the next thread that needs the
    /// value computes it.
    pub fn get_or_try_init(&self, compute: impl FnOnce() -> Result<T>) -> Result<T> {
        let token = match self.turn()? {
            Ok(value) => return Ok(value),
            Err(token) => token,
        };
        let mut turn = Computing {
            once: self,
            token: Some(token),
        };
        let value = compute()?;
        turn.token = None;
        let once = OnceLockProxy::<Opaque>::new(self.target().clone());
        let value = super::give_back(Some(&value), |value| once.finish(token, value))?;
        let value = value.ok_or(Error::LockLost { token })?;
        T::unseal(value.seal()?)
    }
}

/// Lets another thread compute the value if this one does not return with it.
struct Computing<'a, T: Element + 'static> {
    once: &'a Shared<OnceLock<T>>,
    token: Option<u64>,
}

impl<T: Element + 'static> Drop for Computing<'_, T> {
    fn drop(&mut self) {
        if let Some(token) = self.token
            && let Err(error) = self.once.finish(token, None)
        {
            super::report("the turn to compute a value", &error);
        }
    }
}
