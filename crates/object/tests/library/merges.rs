//! Merges into maps against the entries of `HashMap`, for values of all kinds.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::Arc;

use crucial_object::collections::{Map, Merge, Mergeable, OrderedMap};
use crucial_object::{Error, Result, Shared, caller, encode};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::check;
use crate::in_process::InProcess;

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
    /// `None`: they have no order.
    compare: Option<fn(&V, &V) -> std::cmp::Ordering>,
}

fn is_merged_as<V>(value: impl Strategy<Value = V> + Clone + 'static, rules: Rules<V>)
where
    V: Mergeable + Clone + Debug + 'static,
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
                    assert!(!merged || encode(&now?) == encode(&model[&key]));
                }
                All(entries, how) => {
                    let merged = merge_all(&mut model, &entries, how, &rules);
                    let done = ordered.merge_all(entries.clone(), how);
                    assert!(is_as(&done, merged), "{done:?}");
                    let done = map.merge_all(entries, how);
                    assert!(is_as(&done, merged), "{done:?}");
                }
                Top(count) => {
                    let Some(compare) = rules.compare else {
                        assert!(is_as(&map.top(count), false));
                        continue;
                    };
                    let mut all: Vec<(u8, V)> =
                        BTreeMap::from_iter(model.clone()).into_iter().collect();
                    all.sort_by(|(_, one), (_, other)| compare(other, one));
                    all.truncate(usize::try_from(count).unwrap_or(usize::MAX));
                    assert_eq!(encode(&map.top(count)?), encode(&all));
                }
            }
            // By their encodings: a NaN is not equal to itself.
            let entries = BTreeMap::from_iter(model.clone());
            let all = encode(&Vec::from_iter(&entries));
            assert_eq!(
                encode(&BTreeMap::from_iter(map.entries()?)),
                encode(&entries)
            );
            assert_eq!(encode(&ordered.entries()?), all);
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
                compare: Some(Ord::cmp),
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
    ($($test:ident: $float:ident $nan:literal;)+) => {$(
        #[test]
        fn $test() {
            let value = prop_oneof![
                -1e30..1e30 as $float,
                any::<$float>(),
                select(vec![0.0, -0.0, 1.5, $float::MAX, $float::MIN_POSITIVE]),
                select(vec![$float::NAN, -$float::NAN, $float::INFINITY, $float::NEG_INFINITY]),
            ];
            fn computed(value: $float) -> $float {
                if value.is_nan() { $float::from_bits($nan) } else { value }
            }
            is_merged_as(value, Rules {
                merge: |old, new, how| {
                    let numbers = [*old, *new].into_iter().filter(|value| !value.is_nan());
                    match how {
                        Merge::Sum => Some(computed(old + new)),
                        Merge::Max => Some(numbers.max_by($float::total_cmp).unwrap_or(computed($float::NAN))),
                        Merge::Min => Some(numbers.min_by($float::total_cmp).unwrap_or(computed($float::NAN))),
                        Merge::Append => None,
                    }
                },
                has: |how| how != Merge::Append,
                // A NaN is below all numbers, and as large as others.
                compare: Some(|one, other| match (one.is_nan(), other.is_nan()) {
                    (false, false) => one.total_cmp(other),
                    (one, other) => other.cmp(&one),
                }),
            });
        }
    )+};
}

floats! {
    values_of_f32: f32 0x7fc0_0000;
    values_of_f64: f64 0x7ff8_0000_0000_0000;
}

#[test]
fn values_of_string() {
    is_merged_as(
        "[aß✓]{0,2}|[ab]{126,129}".prop_map(String::from),
        Rules {
            merge: |old, new, how| (how == Merge::Append).then(|| format!("{old}{new}")),
            has: |how| how == Merge::Append,
            compare: Some(Ord::cmp),
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
            compare: None,
        },
    );
}

/// A client that takes the values for what they are not gets an error, whatever the order of the map.
#[test]
fn values_of_several_kinds_have_no_order() {
    caller::with(Arc::new(InProcess::default()), || {
        let words = Shared::<Map<u8, String>>::named("mixed", Map::new())?;
        let numbers = Shared::<Map<u8, u64>>::open("mixed")?;
        for key in 0..50 {
            match key % 3 {
                0 => numbers.insert(key, u64::MAX - u64::from(key)).map(drop)?,
                1 => words
                    .insert(key, "word".repeat(usize::from(key)))
                    .map(drop)?,
                _ => words.insert(key, String::new()).map(drop)?,
            }
        }
        assert!(is_as(&numbers.top(3), false));
        assert!(is_as(&words.top(3), false));
        Ok(())
    })
    .unwrap_or_else(|error: Error| panic!("{error}"));
}
