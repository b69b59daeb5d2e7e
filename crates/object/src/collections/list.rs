//! A list.

use serde::{Deserialize, Serialize};

use super::{index, page_size};
use crate::opaque::sealed;
use crate::{Element, Error, Result, shared};

/// A shared list, as [`Vec`]. Items are equal if their [encodings](crate::Opaque) are.
///
/// ```
/// use crucial::Shared;
/// use crucial::collections::List;
///
/// let names = Shared::new(List::from(vec!["a".to_owned()]))?;
/// names.extend(vec!["b".to_owned(), "c".to_owned()])?; // one message
/// names.push("d".to_owned())?;
/// assert_eq!(names.get(1)?.as_deref(), Some("b"));
/// assert_eq!((names.set(0, "z".to_owned())?, names.remove(1)?), ("a".to_owned(), "b".to_owned()));
/// assert_eq!((names.pop()?.as_deref(), names.len()?), (Some("d"), 2));
/// assert_eq!(names.range(0, 10)?, ["z", "c"]);
/// # Ok::<(), crucial::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "T: Element")]
#[doc(alias("SharedList", "ArrayList"))]
pub struct List<T> {
    #[serde(with = "sealed::seq")]
    items: Vec<T>,
}

impl<T> List<T> {
    /// An empty list.
    pub const fn new() -> List<T> {
        List { items: Vec::new() }
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        List::new()
    }
}

impl<T> From<Vec<T>> for List<T> {
    fn from(items: Vec<T>) -> Self {
        List { items }
    }
}

impl<T> FromIterator<T> for List<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        List {
            items: Vec::from_iter(items),
        }
    }
}

#[shared(name = "crucial::List", crate = crate)]
impl<T: Clone + PartialEq> List<T> {
    /// Appends an item.
    #[doc(alias("add", "append"))]
    pub fn push(&mut self, item: T) {
        self.items.push(item);
    }

    /// Removes the last item.
    pub fn pop(&mut self) -> Option<T> {
        self.items.pop()
    }

    /// The item at `index`; `None` if that is out of bounds.
    pub fn get(&self, index: u64) -> Option<T> {
        self.items.get(usize::try_from(index).ok()?).cloned()
    }

    /// Sets the item at `position`, and returns the one that was there.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`](crate::Error::OutOfBounds).
    #[fallible]
    pub fn set(&mut self, position: u64, item: T) -> Result<T> {
        let position = index(position, self.items.len())?;
        Ok(std::mem::replace(&mut self.items[position], item))
    }

    /// Inserts an item before the one at `position`; at the end if that is the length.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`](crate::Error::OutOfBounds).
    #[fallible]
    pub fn insert(&mut self, position: u64, item: T) -> Result<()> {
        let len = self.items.len() as u64;
        if position > len {
            return Err(Error::OutOfBounds {
                index: position,
                len,
            });
        }
        self.items.insert(page_size(position), item);
        Ok(())
    }

    /// Removes the item at `position`, and returns it.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`](crate::Error::OutOfBounds).
    #[fallible]
    pub fn remove(&mut self, position: u64) -> Result<T> {
        let position = index(position, self.items.len())?;
        Ok(self.items.remove(position))
    }

    /// Removes the first item that is equal to this one, by its [encoding](crate::Opaque); whether there was one.
    #[doc(alias = "remove")]
    pub fn remove_item(&mut self, item: &T) -> bool {
        let position = self.items.iter().position(|other| other == item);
        position
            .map(|position| self.items.remove(position))
            .is_some()
    }

    /// Where the first item is that is equal to this one, by its [encoding](crate::Opaque): `-0.0` is not `0.0`, and a NaN
    /// is equal to itself.
    #[doc(alias = "indexOf")]
    pub fn position(&self, item: &T) -> Option<u64> {
        let position = self.items.iter().position(|other| other == item);
        position.map(|position| position as u64)
    }

    /// Keeps the first `len` items.
    pub fn truncate(&mut self, len: u64) {
        self.items.truncate(page_size(len));
    }

    /// Appends all `items`.
    #[doc(alias = "addAll")]
    pub fn extend(&mut self, items: Vec<T>) {
        self.items.extend(items);
    }

    /// Whether an equal item is in the list, by its [encoding](crate::Opaque).
    pub fn contains(&self, item: &T) -> bool {
        self.items.contains(item)
    }

    /// Up to `count` items from `start` on.
    #[doc(alias("slice", "subList"))]
    pub fn range(&self, start: u64, count: u64) -> Vec<T> {
        let items = self.items.iter().skip(page_size(start));
        items.take(page_size(count)).cloned().collect()
    }

    /// All items.
    pub fn to_vec(&self) -> Vec<T> {
        self.items.clone()
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
