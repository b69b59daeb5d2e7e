//! A list.

use serde::{Deserialize, Serialize};

use crate::opaque::sealed;
use crate::{Element, shared};

/// A shared list, as [`Vec`].
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

    /// The item at `index`.
    pub fn get(&self, index: u64) -> Option<T> {
        self.items.get(usize::try_from(index).ok()?).cloned()
    }

    /// Sets the item at `index`, and returns the one that was there; `None`, and no change, if
    /// `index` is out of bounds.
    pub fn set(&mut self, index: u64, item: T) -> Option<T> {
        let slot = self.items.get_mut(usize::try_from(index).ok()?)?;
        Some(std::mem::replace(slot, item))
    }

    /// Appends all `items`.
    #[doc(alias = "addAll")]
    pub fn extend(&mut self, items: Vec<T>) {
        self.items.extend(items);
    }

    /// Whether an equal item is in the list.
    pub fn contains(&self, item: &T) -> bool {
        self.items.contains(item)
    }

    /// Up to `count` items from `start` on.
    #[doc(alias("slice", "subList"))]
    pub fn range(&self, start: u64, count: u64) -> Vec<T> {
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.items.iter().skip(start).take(count).cloned().collect()
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

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Removes all items.
    pub fn clear(&mut self) {
        self.items.clear();
    }
}
