//! Sets against `HashSet`, maps against `HashMap`.

use std::collections::{HashMap, HashSet};

use crucial_object::collections::{Map, Set};
use crucial_object::{Result, Shared};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::check;

/// Few keys, so that they meet.
fn key() -> impl Strategy<Value = (i16, String)> {
    (-1..3i16, "[aß]{0,1}")
}

type Key = (i16, String);

/// Reads all pages; each begins after the end of the one before.
fn pages<T: Clone, C>(
    page: impl Fn(Option<C>) -> Result<Vec<T>>,
    cursor: impl Fn(&T) -> C,
) -> Result<Vec<T>> {
    let mut all = Vec::new();
    loop {
        let next = page(all.last().map(&cursor))?;
        if next.is_empty() {
            return Ok(all);
        }
        all.extend(next);
    }
}

#[derive(Clone, Debug)]
enum OnSet {
    Insert(Key),
    Extend(Vec<Key>),
    Remove(Key),
    RemoveAll(Vec<Key>),
    Contains(Key),
    ContainsEach(Vec<Key>),
    Pages(u64),
    Clear,
}

#[test]
fn a_set_is_a_hash_set() {
    use OnSet::*;
    let operation = prop_oneof![
        4 => key().prop_map(Insert),
        2 => vec(key(), 0..5).prop_map(Extend),
        3 => key().prop_map(Remove),
        1 => vec(key(), 0..5).prop_map(RemoveAll),
        2 => key().prop_map(Contains),
        2 => vec(key(), 0..5).prop_map(ContainsEach),
        2 => (1..9u64).prop_map(Pages),
        1 => Just(Clear),
    ];
    check(operation, |operations| {
        let mut model = HashSet::from([(0, String::new())]);
        let set = Shared::new(Set::from_iter(model.clone()))?;
        for operation in operations {
            match operation {
                Insert(key) => assert_eq!(set.insert(key.clone())?, model.insert(key)),
                Extend(keys) => {
                    let new = keys.iter().filter(|key| model.insert((*key).clone()));
                    let new = new.count() as u64;
                    assert_eq!(set.extend(keys)?, new);
                }
                Remove(key) => assert_eq!(set.remove(&key)?, model.remove(&key)),
                RemoveAll(keys) => {
                    let there = keys.iter().filter(|key| model.remove(key)).count() as u64;
                    assert_eq!(set.remove_all(&keys)?, there);
                }
                Contains(key) => assert_eq!(set.contains(&key)?, model.contains(&key)),
                ContainsEach(keys) => {
                    let each = keys.iter().map(|key| model.contains(key));
                    assert!(set.contains_each(&keys)?.into_iter().eq(each));
                }
                Pages(size) => {
                    let all = pages(|after| set.page(after, size), Clone::clone)?;
                    assert_eq!(all.len(), model.len());
                    assert_eq!(HashSet::from_iter(all.clone()), model);
                    assert_eq!(set.to_vec()?, all);
                }
                Clear => {
                    set.clear()?;
                    model.clear();
                }
            }
            assert_eq!(HashSet::from_iter(set.to_vec()?), model);
            assert_eq!(
                (set.len()?, set.is_empty()?),
                (model.len() as u64, model.is_empty())
            );
        }
        Ok(())
    });
}

type Value = Option<f64>;

fn value() -> impl Strategy<Value = Value> {
    prop::option::of(prop::sample::select(vec![0.0, -1.5, f64::INFINITY]))
}

#[derive(Clone, Debug)]
enum OnMap {
    Insert(Key, Value),
    Get(Key),
    GetOrInsert(Key, Value),
    CompareAndSet(Key, Option<Value>, Value),
    /// From the value that is there.
    Replace(Key, Value),
    Remove(Key),
    Extend(Vec<(Key, Value)>),
    Pages(u64),
    Clear,
}

fn on_map() -> impl Strategy<Value = OnMap> {
    use OnMap::*;
    prop_oneof![
        4 => (key(), value()).prop_map(|(key, value)| Insert(key, value)),
        2 => key().prop_map(Get),
        2 => (key(), value()).prop_map(|(key, value)| GetOrInsert(key, value)),
        2 => (key(), prop::option::of(value()), value())
            .prop_map(|(key, from, to)| CompareAndSet(key, from, to)),
        2 => (key(), value()).prop_map(|(key, value)| Replace(key, value)),
        2 => key().prop_map(Remove),
        1 => vec((key(), value()), 0..5).prop_map(Extend),
        2 => (1..9u64).prop_map(Pages),
        1 => Just(Clear),
    ]
}

/// Checks that both hold the same, and that keys, values and entries are in one order.
fn same(map: &Shared<Map<Key, Value>>, model: &HashMap<Key, Value>) -> Result<()> {
    let entries = map.entries()?;
    assert_eq!(entries.len(), model.len());
    assert_eq!(HashMap::from_iter(entries.clone()), *model);
    let (keys, values): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
    assert_eq!((map.keys()?, map.values()?), (keys, values));
    assert_eq!(
        (map.len()?, map.is_empty()?),
        (model.len() as u64, model.is_empty())
    );
    Ok(())
}

#[test]
fn a_map_is_a_hash_map() {
    check(on_map(), |operations| {
        use OnMap::*;
        let mut model = HashMap::from([((0, String::new()), None)]);
        let map: Shared<Map<Key, Value>> = Shared::new(Map::from_iter(model.clone()))?;
        for operation in operations {
            match operation {
                Insert(key, value) => {
                    assert_eq!(map.insert(key.clone(), value)?, model.insert(key, value));
                }
                Get(key) => {
                    assert_eq!(map.get(&key)?, model.get(&key).copied());
                    assert_eq!(map.contains_key(&key)?, model.contains_key(&key));
                }
                GetOrInsert(key, value) => {
                    let there = map.get_or_insert(key.clone(), value)?;
                    assert_eq!(there, *model.entry(key).or_insert(value));
                }
                CompareAndSet(key, from, to) => {
                    let matches = model.get(&key) == from.as_ref();
                    assert_eq!(map.compare_and_set(key.clone(), from, to)?, matches);
                    if matches {
                        model.insert(key, to);
                    }
                }
                Replace(key, to) => {
                    let from = model.insert(key.clone(), to);
                    assert!(map.compare_and_set(key, from, to)?);
                }
                Remove(key) => assert_eq!(map.remove(&key)?, model.remove(&key)),
                Extend(entries) => {
                    map.extend(entries.clone())?;
                    model.extend(entries);
                }
                Pages(size) => {
                    let all = pages(|after| map.page(after, size), |(key, _)| key.clone())?;
                    assert_eq!(map.entries()?, all);
                }
                Clear => {
                    map.clear()?;
                    model.clear();
                }
            }
            same(&map, &model)?;
        }
        Ok(())
    });
}
