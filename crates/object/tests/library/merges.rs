//! Merges into maps against the entries of `HashMap`, for values of all kinds.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use crucial_object::collections::{Map, Merge, Mergeable, OrderedMap};
use crucial_object::{Error, Result, Shared};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::check;

#[derive(Clone, Debug)]
enum Operation<V> {
    Insert(u8, V),
    Remove(u8),
    One(u8, V, Merge),
    All(Vec<(u8, V)>, Merge),
    Top(u64),
}

/// What merges do, and which value is larger.
struct Rules<V> {
    merge: fn(&V, &V, Merge) -> Option<V>,
    has: fn(Merge) -> bool,
    compare: fn(&V, &V) -> std::cmp::Ordering,
}

fn is_merged_as<V>(value: impl Strategy<Value = V> + Clone + 'static, rules: Rules<V>)
where
    V: Mergeable + Clone + PartialEq + Debug + 'static,
{
    use Operation::*;
    let how = || select(vec![Merge::Sum, Merge::Max, Merge::Min, Merge::Append]);
    let entry = || (0..6u8, value.clone());
    let operation = prop_oneof![
        2 => entry().prop_map(|(key, value)| Insert(key, value)),
        2 => (0..6u8).prop_map(Remove),
        8 => (entry(), how()).prop_map(|((key, value), how)| One(key, value, how)),
        4 => (vec(entry(), 0..6), how()).prop_map(|(entries, how)| All(entries, how)),
        1 => prop_oneof![0..7u64, Just(u64::MAX)].prop_map(Top),
    ];
    check(operation, |operations| {
        let map: Shared<Map<u8, V>> = Shared::new(Map::new())?;
        let ordered: Shared<OrderedMap<u8, V>> = Shared::new(OrderedMap::new())?;
        let mut model: HashMap<u8, V> = HashMap::new();
        for operation in operations {
            match operation {
                Insert(key, value) => {
                    map.insert(key, value.clone())?;
                    ordered.insert(key, value.clone())?;
                    model.insert(key, value);
                }
                Remove(key) => {
                    map.remove(&key)?;
                    ordered.remove(&key)?;
                    model.remove(&key);
                }
                One(key, value, how) => {
                    let merged = merge_all(&mut model, &[(key, value.clone())], how, &rules);
                    let done = ordered.merge(key, value.clone(), how);
                    assert!(is_as(&done, merged), "{done:?}");
                    let now = map.merge(key, value, how);
                    assert!(is_as(&now, merged), "{now:?}");
                    assert!(!merged || now.ok().as_ref() == model.get(&key));
                }
                All(entries, how) => {
                    let merged = merge_all(&mut model, &entries, how, &rules);
                    let done = ordered.merge_all(entries.clone(), how);
                    assert!(is_as(&done, merged), "{done:?}");
                    let done = map.merge_all(entries, how);
                    assert!(is_as(&done, merged), "{done:?}");
                }
                Top(count) => {
                    let mut all: Vec<(u8, V)> =
                        BTreeMap::from_iter(model.clone()).into_iter().collect();
                    all.sort_by(|(_, one), (_, other)| (rules.compare)(other, one));
                    all.truncate(usize::try_from(count).unwrap_or(usize::MAX));
                    assert_eq!(map.top(count)?, all);
                }
            }
            assert_eq!(HashMap::from_iter(map.entries()?), model);
            assert!(
                ordered
                    .entries()?
                    .into_iter()
                    .eq(BTreeMap::from_iter(model.clone()))
            );
        }
        Ok(())
    });
}

/// Merged, or refused.
fn is_as<T>(result: &Result<T>, merged: bool) -> bool {
    match result {
        Ok(_) => merged,
        Err(error) => !merged && matches!(error, Error::BadArguments { .. }),
    }
}

/// By the entries of `HashMap`: all or none; whether it was all.
fn merge_all<V: Clone>(
    model: &mut HashMap<u8, V>,
    entries: &[(u8, V)],
    how: Merge,
    rules: &Rules<V>,
) -> bool {
    let mut merged = model.clone();
    for (key, value) in entries {
        let old = merged.entry(*key);
        let mut fits = true;
        old.and_modify(|old| match (rules.merge)(old, value, how) {
            Some(new) => *old = new,
            None => fits = false,
        })
        .or_insert(value.clone());
        if !fits {
            return false;
        }
    }
    let all = (rules.has)(how);
    if all {
        *model = merged;
    }
    all
}

macro_rules! numbers {
    ($($test:ident: $int:ident;)+) => {$(
        #[test]
        fn $test() {
            let value = prop_oneof![
                2 => any::<$int>(),
                2 => 0..20 as $int,
                1 => select(vec![$int::MIN, $int::MAX]),
            ];
            is_merged_as(value, Rules {
                merge: |old, new, how| match how {
                    Merge::Sum => old.checked_add(*new),
                    Merge::Max => Some(*old.max(new)),
                    Merge::Min => Some(*old.min(new)),
                    Merge::Append => None,
                },
                has: |how| how != Merge::Append,
                compare: Ord::cmp,
            });
        }
    )+};
}

numbers! {
    values_of_i8: i8;
    values_of_i16: i16;
    values_of_i32: i32;
    values_of_i64: i64;
    values_of_isize: isize;
    values_of_u8: u8;
    values_of_u16: u16;
    values_of_u32: u32;
    values_of_u64: u64;
    values_of_usize: usize;
}

macro_rules! floats {
    ($($test:ident: $float:ident;)+) => {$(
        #[test]
        fn $test() {
            // No NaN, because the test compares with `==`, and no -0.0, whose minimum with 0.0 is either.
            let value = prop_oneof![
                -1e30..1e30 as $float,
                select(vec![0.0, 1.5, $float::MAX, $float::MIN_POSITIVE]),
            ];
            is_merged_as(value, Rules {
                merge: |old, new, how| match how {
                    Merge::Sum => Some(old + new),
                    Merge::Max => Some(old.max(*new)),
                    Merge::Min => Some(old.min(*new)),
                    Merge::Append => None,
                },
                has: |how| how != Merge::Append,
                compare: $float::total_cmp,
            });
        }
    )+};
}

floats! {
    values_of_f32: f32;
    values_of_f64: f64;
}

/// In the order of the encodings: by the length, which is one byte for short ones, and then by the items.
fn shortest_first<T: Ord + AsRef<[U]>, U>(one: &T, other: &T) -> std::cmp::Ordering {
    let length = |value: &T| value.as_ref().len();
    length(one).cmp(&length(other)).then_with(|| one.cmp(other))
}

#[test]
fn values_of_string() {
    is_merged_as(
        "[aß✓]{0,2}".prop_map(String::from),
        Rules {
            merge: |old, new, how| (how == Merge::Append).then(|| format!("{old}{new}")),
            has: |how| how == Merge::Append,
            compare: shortest_first::<String, u8>,
        },
    );
}

#[test]
fn values_of_vec() {
    is_merged_as(
        vec((0..3u8, any::<bool>()), 0..3),
        Rules {
            merge: |old, new, how| (how == Merge::Append).then(|| [&old[..], new].concat()),
            has: |how| how == Merge::Append,
            compare: shortest_first,
        },
    );
}
