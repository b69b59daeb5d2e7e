//! A map.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::page_size;
use crate::merge::{Kind, MergeBy, merge_into, top};
use crate::opaque::sealed;
use crate::{Element, Merge, Mergeable, Result, Shared, shared};

/// A shared map, as [`std::collections::HashMap`].
///
/// Keys and values are equal if their [encodings](crate::Opaque) are: of floating-point keys `-0.0` and `0.0` are two, and a
/// NaN is one. Iteration is in the order of the encoded keys, which is the same at every replica.
///
/// ```
/// use crucial::collections::{Map, Merge};
/// use crucial::Shared;
///
/// let words = Shared::new(Map::<String, u64>::new())?;
/// words.insert("a".to_owned(), 1)?;
/// // Many entries in one call, each added to what is there.
/// words.merge_all(vec![("a".to_owned(), 4), ("b".to_owned(), 2)], Merge::Sum)?;
/// assert_eq!(words.get(&"a".to_owned())?, Some(5));
/// assert!(words.compare_and_set("b".to_owned(), Some(2), 3)?);
/// assert_eq!(words.top(1)?, [("a".to_owned(), 5)]);
/// // Page by page, if it is large.
/// assert_eq!(words.page(None, 1)?.len(), 1);
/// # Ok::<(), crucial::Error>(())
/// ```
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

    /// Sets the value of `key` to `new` if it is `current` (`None`: if it has none), by its [encoding](crate::Opaque);
    /// whether it did.
    pub fn compare_and_set(&mut self, key: K, current: Option<V>, new: V) -> bool {
        let matches = self.entries.get(&key) == current.as_ref();
        if matches {
            self.entries.insert(key, new);
        }
        matches
    }

    /// Merges each value into that of its key, or inserts it if the key is new; all or, with an error, none.
    #[fallible]
    fn merge_by(&mut self, entries: Vec<(K, V)>, by: MergeBy) -> Result<()>
    where
        V: Element,
    {
        merge_into(&mut self.entries, entries, by)
    }

    /// Merges one value; gives what it is now.
    #[fallible]
    fn merge_one(&mut self, key: K, value: V, by: MergeBy) -> Result<V>
    where
        V: Element,
    {
        let value = match self.entries.get(&key) {
            Some(old) => by.merge(old, std::iter::once(&value))?,
            None => by.first(&value)?,
        };
        self.entries.insert(key, value.clone());
        Ok(value)
    }

    /// The entries with the largest values.
    #[fallible]
    fn top_by(&self, count: u64, kind: Kind) -> Result<Vec<(K, V)>>
    where
        V: Element,
    {
        top(self.entries.iter(), count, kind)
    }

    /// Removes `key`, and returns the value that it had.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.entries.remove(key)
    }

    /// Whether `key` has a value: a key with the same [encoding](crate::Opaque).
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
            .take(page_size(count))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
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

impl<K: Element + 'static, V: Mergeable + 'static> Shared<Map<K, V>> {
    /// Merges `value` into that of `key`, or inserts it if the key is new. Returns the new value. Atomic, and one
    /// message.
    ///
    /// # Errors
    ///
    /// [`Error::BadArguments`](crate::Error::BadArguments) if the type has no such merge, or the sum does not fit.
    #[doc(alias = "computeIfPresent")]
    pub fn merge(&self, key: K, value: V, how: Merge) -> Result<V> {
        self.merge_one(key, value, MergeBy::of::<V>(how)?)
    }

    /// Merges all `entries` in one call: all of them or, with an error, none.
    pub fn merge_all(&self, entries: Vec<(K, V)>, how: Merge) -> Result<()> {
        self.merge_by(entries, MergeBy::of::<V>(how)?)
    }

    /// The `count` entries with the largest values, largest first; of equal ones, in the order of the
    /// encoded keys. Values are numbers (a NaN is below all others, -0.0 below 0.0) or strings.
    ///
    /// # Errors
    ///
    /// [`Error::BadArguments`](crate::Error::BadArguments) if the values are vectors, or not all of this type.
    pub fn top(&self, count: u64) -> Result<Vec<(K, V)>> {
        self.top_by(count, V::KIND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, Opaque};

    #[test]
    fn the_first_value_of_a_key_is_of_the_kind_of_its_merge() {
        let sealed = |value: &str| value.to_owned().seal();
        let sealed = |value: &str| Opaque::unseal(sealed(value).unwrap()).unwrap();
        let (key, text) = (sealed("key"), sealed("not a number"));
        let mut map = Map::<Opaque, Opaque>::new();
        let sum = MergeBy {
            how: Merge::Sum,
            kind: Kind::F64,
        };
        let append = MergeBy {
            how: Merge::Append,
            kind: Kind::F64,
        };
        let entries = vec![(key.clone(), text.clone())];
        for by in [sum, append] {
            let results = [
                map.merge_one(key.clone(), text.clone(), by).map(drop),
                map.merge_by(entries.clone(), by),
            ];
            for result in results {
                assert!(matches!(result, Err(Error::BadArguments { .. })));
            }
        }
        assert!(map.is_empty());
        assert_eq!(map.top_by(1, Kind::F64).unwrap().len(), 0);

        let text = MergeBy {
            how: Merge::Append,
            kind: Kind::Text,
        };
        let value = map.merge_one(key, sealed("a"), text).unwrap();
        assert_eq!(value, sealed("a"));
    }
}
