//! A map in the order of its keys.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::page_size;
use crate::merge::{MergeBy, merge_into};
use crate::opaque::sealed;
use crate::{Element, Merge, Mergeable, Result, Shared, SortKey, shared};

/// A shared map in the order of its keys, as [`std::collections::BTreeMap`].
///
/// The order is that of the keys' values (see [`SortKey`]): numbers by size, strings and tuples
/// lexicographically. A key that would not come back as it was is refused with
/// [`Error::Encoding`](crate::Error::Encoding).
///
/// ```
/// use crucial::Shared;
/// use crucial::collections::OrderedMap;
///
/// let events = Shared::new(OrderedMap::new())?;
/// events.extend(vec![(30, "c".to_owned()), (-10, "a".to_owned()), (20, "b".to_owned())])?;
/// assert_eq!(events.first()?, Some((-10, "a".to_owned())));
/// assert_eq!(events.range(Some(0), Some(30), 10)?, [(20, "b".to_owned())]);
/// assert_eq!(events.pop_last()?.map(|(time, _)| time), Some(30));
/// # Ok::<(), crucial::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound(
    serialize = "K: SortKey, V: Element",
    deserialize = "K: SortKey + Ord, V: Element"
))]
#[doc(alias("BTreeMap", "TreeMap", "SortedMap", "ConcurrentSkipListMap"))]
pub struct OrderedMap<K, V> {
    #[serde(with = "sealed::sorted_map")]
    entries: BTreeMap<K, V>,
}

impl<K, V> OrderedMap<K, V> {
    /// An empty map.
    pub const fn new() -> OrderedMap<K, V> {
        OrderedMap {
            entries: BTreeMap::new(),
        }
    }
}

impl<K, V> Default for OrderedMap<K, V> {
    fn default() -> Self {
        OrderedMap::new()
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for OrderedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        OrderedMap {
            entries: BTreeMap::from_iter(entries),
        }
    }
}

fn owned<K: Clone, V: Clone>((key, value): (&K, &V)) -> (K, V) {
    (key.clone(), value.clone())
}

#[shared(name = "crucial::OrderedMap", crate = crate, sorted(K))]
impl<K: Clone + Ord, V: Clone> OrderedMap<K, V> {
    /// Sets the value of `key`, and returns the one that it had.
    #[doc(alias = "put")]
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.entries.insert(key, value)
    }

    /// The value of `key`.
    pub fn get(&self, key: &K) -> Option<V> {
        self.entries.get(key).cloned()
    }

    /// Removes `key`, and returns the value that it had.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.entries.remove(key)
    }

    /// Whether `key` has a value.
    #[doc(alias = "containsKey")]
    pub fn contains_key(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// Inserts all `entries`.
    #[doc(alias = "putAll")]
    pub fn extend(&mut self, entries: Vec<(K, V)>) {
        self.entries.extend(entries);
    }

    /// Merges each value into that of its key; all or, with an error, none.
    #[fallible]
    fn merge_by(&mut self, entries: Vec<(K, V)>, by: MergeBy) -> Result<()>
    where
        V: Element,
    {
        merge_into(&mut self.entries, entries, by)
    }

    /// The entry with the smallest key.
    #[doc(alias("first_key_value", "firstEntry"))]
    pub fn first(&self) -> Option<(K, V)> {
        self.entries.first_key_value().map(owned)
    }

    /// The entry with the largest key.
    #[doc(alias("last_key_value", "lastEntry"))]
    pub fn last(&self) -> Option<(K, V)> {
        self.entries.last_key_value().map(owned)
    }

    /// Removes the entry with the smallest key, and returns it.
    #[doc(alias = "pollFirstEntry")]
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        self.entries.pop_first()
    }

    /// Removes the entry with the largest key, and returns it.
    #[doc(alias = "pollLastEntry")]
    pub fn pop_last(&mut self) -> Option<(K, V)> {
        self.entries.pop_last()
    }

    /// The entries with keys from `from` on and below `to` (`None`: no bound), at most `count`, smallest
    /// first.
    #[doc(alias = "subMap")]
    pub fn range(&self, from: Option<K>, to: Option<K>, count: u64) -> Vec<(K, V)> {
        if let (Some(from), Some(to)) = (&from, &to)
            && from >= to
        {
            return Vec::new();
        }
        let from = from.map_or(Bound::Unbounded, Bound::Included);
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.entries.range((from, to));
        range.take(page_size(count)).map(owned).collect()
    }

    /// Up to `count` entries after the key `after` (`None`: from the start), to read a large map in pages.
    pub fn page(&self, after: Option<K>, count: u64) -> Vec<(K, V)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.entries.range((start, Bound::Unbounded));
        range.take(page_size(count)).map(owned).collect()
    }

    /// The `count` entries with the largest keys, largest first.
    #[doc(alias = "descendingMap")]
    pub fn top(&self, count: u64) -> Vec<(K, V)> {
        let entries = self.entries.iter().rev();
        entries.take(page_size(count)).map(owned).collect()
    }

    /// All entries, smallest key first.
    #[doc(alias("entrySet", "iter"))]
    pub fn entries(&self) -> Vec<(K, V)> {
        self.entries.iter().map(owned).collect()
    }

    /// The number of entries.
    #[doc(alias = "size")]
    pub fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

impl<K: SortKey + 'static, V: Mergeable + 'static> Shared<OrderedMap<K, V>> {
    /// Merges `value` into that of `key`, or inserts it if the key is new. Atomic, and one message.
    ///
    /// # Errors
    ///
    /// [`Error::BadArguments`](crate::Error::BadArguments) if the type has no such merge, or the sum does not fit.
    pub fn merge(&self, key: K, value: V, how: Merge) -> Result<()> {
        self.merge_all(vec![(key, value)], how)
    }

    /// Merges all `entries` in one call: all of them or, with an error, none.
    pub fn merge_all(&self, entries: Vec<(K, V)>, how: Merge) -> Result<()> {
        self.merge_by(entries, MergeBy::of::<V>(how)?)
    }
}
