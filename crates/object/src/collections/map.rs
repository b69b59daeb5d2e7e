//! A map.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::opaque::sealed;
use crate::{Element, shared};

/// A shared map, as [`std::collections::HashMap`].
///
/// Iteration is in the order of the encoded keys, which is the same at every replica.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound(
    serialize = "K: Element, V: Element",
    deserialize = "K: Element + Ord, V: Element"
))]
#[doc(alias("SharedMap", "HashMap", "ConcurrentHashMap"))]
pub struct Map<K, V> {
    #[serde(with = "sealed::map")]
    entries: BTreeMap<K, V>,
}

impl<K, V> Map<K, V> {
    /// An empty map.
    pub const fn new() -> Map<K, V> {
        Map {
            entries: BTreeMap::new(),
        }
    }
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Map::new()
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Map<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        Map {
            entries: BTreeMap::from_iter(entries),
        }
    }
}

#[shared(name = "crucial::Map", crate = crate)]
impl<K: Clone + Ord, V: Clone + PartialEq> Map<K, V> {
    /// Sets the value of `key`, and returns the one that it had.
    #[doc(alias = "put")]
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.entries.insert(key, value)
    }

    /// The value of `key`.
    pub fn get(&self, key: &K) -> Option<V> {
        self.entries.get(key).cloned()
    }

    /// The value of `key`, which becomes `value` if it had none.
    #[doc(alias("putIfAbsent", "entry"))]
    pub fn get_or_insert(&mut self, key: K, value: V) -> V {
        self.entries.entry(key).or_insert(value).clone()
    }

    /// Sets the value of `key` to `new` if it is `current` (`None`: if it has none); whether it did.
    pub fn compare_and_set(&mut self, key: K, current: Option<V>, new: V) -> bool {
        let matches = self.entries.get(&key) == current.as_ref();
        if matches {
            self.entries.insert(key, new);
        }
        matches
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

    /// All keys.
    #[doc(alias = "keySet")]
    pub fn keys(&self) -> Vec<K> {
        self.entries.keys().cloned().collect()
    }

    /// All values, in the order of the keys.
    pub fn values(&self) -> Vec<V> {
        self.entries.values().cloned().collect()
    }

    /// All entries.
    #[doc(alias("entrySet", "iter"))]
    pub fn entries(&self) -> Vec<(K, V)> {
        self.entries
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    }

    /// Up to `count` entries after the key `after` (`None`: from the start), to read a large map in
    /// pages.
    pub fn page(&self, after: Option<K>, count: u64) -> Vec<(K, V)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let start = after.as_ref().map_or(Unbounded, Excluded);
        self.entries
            .range((start, Unbounded))
            .take(usize::try_from(count).unwrap_or(usize::MAX))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    }

    /// The number of entries.
    #[doc(alias = "size")]
    pub fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}
