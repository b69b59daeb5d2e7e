//! A cell of any type.

use serde::{Deserialize, Serialize};

use super::update;
use crate::opaque::sealed;
use crate::{Element, Result, shared};

/// One value of any serde type, read and replaced whole, as `crossbeam`'s `AtomicCell` or Java's
/// `AtomicReference`.
///
/// The server keeps the encoded value: two values are equal if their encodings are. To change a part of a
/// large value, make it a [`#[shared]`](crate::shared) type of your own, whose methods run on the server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(bound = "T: Element")]
#[doc(alias("AtomicReference", "Cell", "Register"))]
pub struct AtomicCell<T> {
    #[serde(with = "sealed::one")]
    value: T,
}

impl<T> AtomicCell<T> {
    /// A cell with this value.
    pub const fn new(value: T) -> AtomicCell<T> {
        AtomicCell { value }
    }
}

#[shared(name = "crucial::AtomicCell", crate = crate)]
impl<T: Clone + PartialEq> AtomicCell<T> {
    /// The value.
    #[doc(alias = "load")]
    pub fn get(&self) -> T {
        self.value.clone()
    }

    /// Sets the value.
    #[doc(alias = "store")]
    pub fn set(&mut self, value: T) {
        self.value = value;
    }

    /// Sets the value and returns the previous one.
    #[doc(alias = "getAndSet")]
    pub fn swap(&mut self, value: T) -> T {
        std::mem::replace(&mut self.value, value)
    }

    /// Sets the value to `new` if it is `current`. Returns the previous value, as `Ok` if it was set.
    #[doc(alias = "compareAndSet")]
    pub fn compare_exchange(&mut self, current: T, new: T) -> Result<T, T> {
        if self.value == current {
            Ok(std::mem::replace(&mut self.value, new))
        } else {
            Err(self.value.clone())
        }
    }
}

impl<T: Element + Clone + 'static> AtomicCellProxy<T> {
    /// Sets the value to `new` if it is `current`; whether it did.
    pub fn compare_and_set(&self, current: T, new: T) -> Result<bool> {
        Ok(self.compare_exchange(current, new)?.is_ok())
    }

    /// Applies `f` to the value, so that nothing changes behind `f`'s back: `f` runs here, again and again
    /// until it does. Returns the new value.
    ///
    /// # Errors
    ///
    /// [`Error::LimitExceeded`](crate::Error::LimitExceeded) after 10 000 tries: an operation that many
    /// threads contend for belongs in a `#[shared]` type.
    #[doc(alias("updateAndGet", "fetch_update"))]
    pub fn update(&self, mut f: impl FnMut(T) -> T) -> Result<T> {
        let mut current = self.get()?;
        update::retry(|| {
            let new = f(current.clone());
            Ok(match self.compare_exchange(current.clone(), new.clone())? {
                Ok(_) => Some(new),
                Err(changed) => {
                    current = changed;
                    None
                }
            })
        })
    }
}
