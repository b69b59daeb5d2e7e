//! A cell of any type.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

use super::update;
use crate::opaque::sealed;
use crate::{Element, Result, Shared, shared};

/// One value of any serde type, read and replaced whole, as `crossbeam`'s `AtomicCell` or Java's
/// `AtomicReference`.
///
/// The server keeps the encoded value: two values are equal if their [encodings](crate::Opaque) are. To change a part of
/// a large value, make it a [`#[shared]`](crate::shared) type of your own, whose methods run on the server.
///
/// ```
/// use crucial::Shared;
/// use crucial::sync::AtomicCell;
///
/// let best = Shared::new(AtomicCell::new((0.0, String::new())))?;
/// best.set((1.5, "a".to_owned()))?;
/// assert!(best.compare_and_set((1.5, "a".to_owned()), (2.5, "b".to_owned()))?);
/// assert_eq!(best.update(|(score, name)| (score + 1.0, name))?.0, 3.5);
/// assert_eq!(best.get()?, (3.5, "b".to_owned()));
/// # Ok::<(), crucial::Error>(())
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(bound = "T: Element")]
#[doc(alias("AtomicReference", "Cell", "Register"))]
pub struct AtomicCell<T> {
    #[serde(with = "sealed::one")]
    value: T,
    /// Counts the changes.
    version: u64,
}

impl<T> AtomicCell<T> {
    /// A cell with this value.
    pub const fn new(value: T) -> AtomicCell<T> {
        AtomicCell { value, version: 0 }
    }

    fn replace(&mut self, value: T) -> T {
        self.version = self.version.wrapping_add(1);
        std::mem::replace(&mut self.value, value)
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
        self.replace(value);
    }

    /// Sets the value and returns the previous one.
    #[doc(alias = "getAndSet")]
    pub fn swap(&mut self, value: T) -> T {
        self.replace(value)
    }

    /// Sets the value to `new` if it is `current`, by its [encoding](crate::Opaque): `-0.0` is not `0.0`, and a NaN is
    /// equal to itself. Returns the previous value, as `Ok` if it was set.
    #[doc(alias = "compareAndSet")]
    pub fn compare_exchange(&mut self, current: T, new: T) -> Result<T, T> {
        if self.value == current {
            Ok(self.replace(new))
        } else {
            Err(self.value.clone())
        }
    }

    /// The value, and a stamp of it: another one after each change, also if that sets the same value again, and in a cell
    /// that was made anew.
    pub fn stamped(&self) -> (T, u64)
    where
        T: Hash,
    {
        // The version alone would be that of the first value again when the cell is made anew.
        let mut hasher = DefaultHasher::new();
        (self.version, &self.value).hash(&mut hasher);
        (self.value.clone(), hasher.finish())
    }

    /// Sets the value to `new` if its stamp is still this one, and returns nothing then; else the present value and its
    /// stamp.
    pub fn set_stamped(&mut self, stamp: u64, new: T) -> Option<(T, u64)>
    where
        T: Hash,
    {
        let present = self.stamped();
        match present.1 == stamp {
            true => {
                self.replace(new);
                None
            }
            false => Some(present),
        }
    }
}

impl<T: Element + Clone + 'static> Shared<AtomicCell<T>> {
    /// Sets the value to `new` if it is `current`, as [`compare_exchange`](AtomicCell::compare_exchange) does; whether it did.
    pub fn compare_and_set(&self, current: T, new: T) -> Result<bool> {
        Ok(self.compare_exchange(current, new)?.is_ok())
    }

    /// Applies `f` to the value, so that nothing changes behind `f`'s back: `f` runs here, again and again
    /// until it does. Returns the new value.
    ///
    /// Changes are noticed, and not values compared: so a value of any type can be updated, and one that was changed and
    /// changed back counts as changed.
    ///
    /// # Errors
    ///
    /// [`Error::LimitExceeded`](crate::Error::LimitExceeded) after 10 000 tries: an operation that many
    /// threads contend for belongs in a `#[shared]` type.
    #[doc(alias("updateAndGet", "fetch_update"))]
    pub fn update(&self, mut f: impl FnMut(T) -> T) -> Result<T> {
        let (mut current, mut stamp) = self.stamped()?;
        update::retry(|| {
            let new = f(current.clone());
            Ok(match self.set_stamped(stamp, new.clone())? {
                None => Some(new),
                Some(changed) => {
                    (current, stamp) = changed;
                    None
                }
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Opaque;

    #[test]
    fn a_stamp_is_that_of_one_change() {
        let value = |n: u8| Opaque::unseal(vec![n].into()).unwrap();
        let mut cell = AtomicCell::new(value(1));
        let (_, first) = cell.stamped();
        // There and back.
        cell.set(value(2));
        cell.set(value(1));
        let (back, stamp) = cell.set_stamped(first, value(3)).unwrap();
        assert!(back == value(1) && stamp != first);
        assert_eq!(cell.set_stamped(stamp, value(3)), None);
        assert_eq!(cell.get(), value(3));
        // Each change counts, and one that failed does not.
        for change in [
            |cell: &mut AtomicCell<Opaque>| drop(cell.swap(cell.get())),
            |cell: &mut AtomicCell<Opaque>| {
                assert!(cell.compare_exchange(cell.get(), cell.get()).is_ok())
            },
        ] {
            let (_, before) = cell.stamped();
            change(&mut cell);
            assert_ne!(cell.stamped().1, before);
        }
        let (_, before) = cell.stamped();
        assert!(cell.compare_exchange(value(9), value(8)).is_err());
        assert!(cell.set_stamped(first, value(8)).is_some());
        assert_eq!(cell.stamped().1, before);
        // A cell that was made anew has other stamps, as it has another value.
        assert_ne!(AtomicCell::new(value(2)).stamped().1, first);
    }
}
