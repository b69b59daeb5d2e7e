//! A set.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::page_size;
use crate::opaque::sealed;
use crate::{Element, shared};

/// A shared set, as [`std::collections::HashSet`].
///
/// Items are equal if their [encodings](crate::Opaque) are: of floating-point numbers `-0.0` and `0.0` are two, and a NaN is
/// one. Iteration is in the order of the encoded items, which is the same at every replica.
///
/// ```
/// use crucial::Shared;
/// use crucial::collections::Set;
///
/// let seen = Shared::new(Set::new())?;
/// assert!(seen.insert(7)? && !seen.insert(7)?);
/// assert_eq!(seen.extend(vec![7, 8, 9])?, 2);
/// assert_eq!(seen.contains_each(&[8, 10])?, [true, false]);
/// assert_eq!((seen.remove_all(&[7, 8])?, seen.to_vec()?), (2, vec![9]));
/// # Ok::<(), crucial::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound(serialize = "T: Element", deserialize = "T: Element + Ord"))]
#[doc(alias("SharedSet", "HashSet"))]
pub struct Set<T> {
    #[serde(with = "sealed::seq")]
    items: BTreeSet<T>,
}

impl<T> Set<T> {
    /// An empty set.
    pub const fn new() -> Set<T> {
        Set {
            items: BTreeSet::new(),
        }
    }
}

impl<T> Default for Set<T> {
    fn default() -> Self {
        Set::new()
    }
}

impl<T: Ord> FromIterator<T> for Set<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Set {
            items: BTreeSet::from_iter(items),
        }
    }
}

#[shared(name = "crucial::Set", crate = crate)]
impl<T: Clone + Ord> Set<T> {
    /// Adds an item; whether it is new: whether no item has the same [encoding](crate::Opaque).
    #[doc(alias = "add")]
    pub fn insert(&mut self, item: T) -> bool {
        self.items.insert(item)
    }

    /// Adds all `items`; how many are new.
    #[doc(alias = "addAll")]
    pub fn extend(&mut self, items: Vec<T>) -> u64 {
        let before = self.items.len();
        self.items.extend(items);
        (self.items.len() - before) as u64
    }

    /// Removes an item; whether it was there.
    pub fn remove(&mut self, item: &T) -> bool {
        self.items.remove(item)
    }

    /// Removes all `items`; how many were there.
    #[doc(alias = "removeAll")]
    pub fn remove_all(&mut self, items: &[T]) -> u64 {
        items.iter().filter(|item| self.items.remove(item)).count() as u64
    }

    /// Whether an item is there: one with the same [encoding](crate::Opaque).
    pub fn contains(&self, item: &T) -> bool {
        self.items.contains(item)
    }

    /// Of each of `items`, whether it is there.
    pub fn contains_each(&self, items: &[T]) -> Vec<bool> {
        items.iter().map(|item| self.items.contains(item)).collect()
    }

    /// All items.
    #[doc(alias("iter", "toArray"))]
    pub fn to_vec(&self) -> Vec<T> {
        self.items.iter().cloned().collect()
    }

    /// Up to `count` items after `after` (`None`: from the start), to read a large set in pages.
    pub fn page(&self, after: Option<T>, count: u64) -> Vec<T> {
        use std::ops::Bound::{Excluded, Unbounded};
        let start = after.as_ref().map_or(Unbounded, Excluded);
        let items = self.items.range((start, Unbounded));
        items.take(page_size(count)).cloned().collect()
    }

    /// The number of items.
    #[doc(alias = "size")]
    pub fn len(&self) -> u64 {
        self.items.len() as u64
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Removes all items.
    pub fn clear(&mut self) {
        self.items.clear();
    }
}
