//! Ordered maps against `BTreeMap`, with keys of many types.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;

use crucial_object::collections::{ByteBuf, Merge, OrderedMap};
use crucial_object::{Error, Shared, caller};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::Bytes;

use crate::check;
use crate::in_process::InProcess;

#[derive(Clone, Debug)]
enum Operation<K> {
    Insert(K, u32),
    Get(K),
    Remove(K),
    Extend(Vec<(K, u32)>),
    PopFirst,
    PopLast,
    Range(Option<K>, Option<K>, u64),
    Page(Option<K>, u64),
    Top(u64),
    Clear,
}

fn operations<K: Clone + Debug>(
    key: impl Strategy<Value = K> + Clone + 'static,
) -> impl Strategy<Value = Operation<K>> {
    use Operation::*;
    let key = || key.clone();
    let count = || prop_oneof![0..6u64, Just(u64::MAX)];
    prop_oneof![
        6 => (key(), any::<u32>()).prop_map(|(key, value)| Insert(key, value)),
        2 => key().prop_map(Get),
        2 => key().prop_map(Remove),
        2 => vec((key(), any::<u32>()), 0..5).prop_map(Extend),
        1 => Just(PopFirst),
        1 => Just(PopLast),
        4 => (option::of(key()), option::of(key()), count())
            .prop_map(|(from, to, count)| Range(from, to, count)),
        3 => (option::of(key()), count()).prop_map(|(after, count)| Page(after, count)),
        1 => count().prop_map(Top),
        1 => Just(Clear),
    ]
}

fn take<K: Clone, V: Clone>(entries: impl Iterator<Item = (K, V)>, count: u64) -> Vec<(K, V)> {
    entries
        .take(usize::try_from(count).unwrap_or(usize::MAX))
        .collect()
}

/// Keys of this type are in the order of the map as they are in that of `BTreeMap`.
fn is_ordered_by<K>(key: impl Strategy<Value = K> + Clone + 'static)
where
    K: Ord + Clone + Debug + Serialize + DeserializeOwned + 'static,
{
    check(operations(key), |operations| {
        use Operation::*;
        let mut model: BTreeMap<K, u32> = BTreeMap::new();
        let mut map: Shared<OrderedMap<K, u32>> = Shared::new(OrderedMap::new())?;
        for operation in operations {
            let all = || model.iter().map(|(key, value)| (key.clone(), *value));
            match operation {
                Insert(key, value) => {
                    assert_eq!(map.insert(key.clone(), value)?, model.insert(key, value));
                }
                Get(key) => {
                    assert_eq!(map.get(&key)?, model.get(&key).copied());
                    assert_eq!(map.contains_key(&key)?, model.contains_key(&key));
                }
                Remove(key) => assert_eq!(map.remove(&key)?, model.remove(&key)),
                Extend(entries) => {
                    map.extend(entries.clone())?;
                    model.extend(entries);
                }
                PopFirst => assert_eq!(map.pop_first()?, model.pop_first()),
                PopLast => assert_eq!(map.pop_last()?, model.pop_last()),
                Range(from, to, count) => {
                    let within = all()
                        .filter(|(key, _)| from.as_ref().is_none_or(|from| key >= from))
                        .filter(|(key, _)| to.as_ref().is_none_or(|to| key < to));
                    let within = take(within, count);
                    assert_eq!(map.range(from, to, count)?, within);
                }
                Page(after, count) => {
                    let page =
                        all().filter(|(key, _)| after.as_ref().is_none_or(|after| key > after));
                    let page = take(page, count);
                    assert_eq!(map.page(after, count)?, page);
                }
                Top(count) => assert_eq!(map.top(count)?, take(all().rev(), count)),
                Clear => {
                    map.clear()?;
                    model.clear();
                }
            }
            let all: Vec<(K, u32)> = model.clone().into_iter().collect();
            assert_eq!(map.entries()?, all);
            assert_eq!(
                (map.first()?, map.last()?),
                (all.first().cloned(), all.last().cloned())
            );
            assert_eq!(
                (map.len()?, map.is_empty()?),
                (all.len() as u64, all.is_empty())
            );
        }
        // Its state travels in order as well.
        map = Shared::new(OrderedMap::from_iter(model.clone()))?;
        assert!(map.entries()?.into_iter().eq(model));
        Ok(())
    });
}

#[test]
fn signed_integers() {
    is_ordered_by(prop_oneof![
        -3..3i32,
        any::<i32>(),
        select(vec![i32::MIN, i32::MAX])
    ]);
}

#[test]
fn unsigned_integers() {
    is_ordered_by(prop_oneof![
        0..5u64,
        any::<u64>(),
        Just(u64::MAX),
        250..260u64
    ]);
}

#[test]
fn integers_of_all_widths() {
    is_ordered_by(any::<(i8, u8, bool)>());
    is_ordered_by(any::<(i16, u16)>());
    is_ordered_by(any::<(i64, u32)>());
    is_ordered_by(prop_oneof![any::<i128>(), -2..2i128]);
    is_ordered_by(any::<u128>());
}

#[test]
fn strings_empty_long_and_of_many_bytes() {
    is_ordered_by("[aß✓\u{0}]{0,3}|[ab]{7,10}|\\PC*".prop_map(String::from));
    is_ordered_by(prop_oneof![
        any::<char>(),
        select(vec!['a', 'ß', '✓', '\u{0}'])
    ]);
}

#[test]
fn pairs() {
    is_ordered_by(("[ab]{0,2}".prop_map(String::from), -2..2i64));
}

#[test]
fn options() {
    is_ordered_by(option::of(prop_oneof![0..3u8, Just(255)]));
}

#[test]
fn sequences() {
    is_ordered_by(vec(option::of(-1..2i8), 0..4));
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle(i16),
    Rectangle { width: u8, height: u8 },
}

#[test]
fn enums_and_structs() {
    is_ordered_by(prop_oneof![
        Just(Shape::Point),
        (-2..2i16).prop_map(Shape::Circle),
        (0..2u8, 0..2u8).prop_map(|(width, height)| Shape::Rectangle { width, height }),
    ]);
}

/// In the order that [`SortKey`](crucial_object::SortKey) names.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Total(f64);

impl Total {
    fn canonical(self) -> f64 {
        if self.0.is_nan() {
            f64::NAN
        } else {
            // Minus zero becomes zero.
            self.0 + 0.0
        }
    }
}

impl Ord for Total {
    fn cmp(&self, other: &Self) -> Ordering {
        self.canonical().total_cmp(&other.canonical())
    }
}

impl PartialOrd for Total {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Total {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Total {}

#[test]
fn floating_point_numbers() {
    let special = select(vec![
        0.0,
        -0.0,
        f64::NAN,
        -f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MIN_POSITIVE,
        -1.5,
    ]);
    is_ordered_by(prop_oneof![special, prop::num::f64::ANY].prop_map(Total));
}

#[test]
fn addresses() {
    let four = any::<[u8; 4]>().prop_map(IpAddr::from);
    let six = any::<[u8; 16]>().prop_map(IpAddr::from);
    is_ordered_by(prop_oneof![
        four,
        six,
        (0..20u8).prop_map(|last| IpAddr::from([10, 0, 0, last]))
    ]);
}

/// As a UUID, or a time: text for people, bytes for others, and read as a borrowed one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Named(String, Vec<u8>);

impl Serialize for Named {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return Err(serde::ser::Error::custom("nobody reads this"));
        }
        (&self.0, Bytes::new(&self.1)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return Err(serde::de::Error::custom("nobody wrote this"));
        }
        let (Text(name), bytes) = <(Text, ByteBuf)>::deserialize(deserializer)?;
        Ok(Named(name, bytes.into_vec()))
    }
}

struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowed;
        impl serde::de::Visitor<'_> for Borrowed {
            type Value = Text;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }
        }
        deserializer.deserialize_str(Borrowed)
    }
}

#[test]
fn keys_that_people_read_otherwise() {
    let key = ("[ab]{0,9}", vec(0..3u8, 0..10));
    is_ordered_by(key.prop_map(|(name, bytes)| Named(name, bytes)));
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u8),
    Text(String),
}

/// Of which the first field is not always written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Gap {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first: Option<u8>,
    second: Option<u8>,
}

/// Whatever is written is another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "u8", into = "u8")]
struct Growing(u8);

impl From<u8> for Growing {
    fn from(number: u8) -> Growing {
        Growing(number.wrapping_add(1))
    }
}

impl From<Growing> for u8 {
    fn from(growing: Growing) -> u8 {
        growing.0
    }
}

#[test]
fn keys_that_do_not_come_back_are_refused_when_they_are_given() {
    is_refused(Untagged::Number(1));
    is_refused(Untagged::Text("text".to_owned()));
    is_refused(Gap {
        first: None,
        second: Some(1),
    });
    is_refused(Growing(1));
    is_refused(BTreeMap::from([(1, 2)]));
}

fn is_refused<K>(key: K)
where
    K: Ord + Clone + Debug + Serialize + DeserializeOwned + 'static,
{
    caller::with(Arc::new(InProcess::default()), || {
        let map: Shared<OrderedMap<K, u8>> = Shared::new(OrderedMap::new()).unwrap();
        let refused = |result| matches!(result, Err(Error::Encoding { .. }));
        assert!(refused(map.insert(key.clone(), 1).map(drop)));
        assert!(refused(map.extend(vec![(key.clone(), 1)])));
        assert!(refused(map.merge(key.clone(), 1, Merge::Sum)));
        assert!(map.is_empty().unwrap());
        let made = Shared::new(OrderedMap::from_iter([(key, 1)]));
        assert!(refused(made.map(drop)));
    });
}

#[test]
fn keys_of_another_type_than_the_reader_thinks_are_an_error() {
    is_refused_as::<u64>(vec![7u8]);
    is_refused_as::<(String, u64)>(vec![1u32, 2]);
    is_refused_as::<char>(vec![u32::MAX]);
    is_refused_as::<Option<i128>>(vec![true]);
    is_refused_as::<Vec<String>>(vec![u64::MAX]);
    is_refused_as::<u8>(vec!["text".to_owned()]);
}

fn is_refused_as<R>(keys: Vec<impl Ord + Clone + Debug + Serialize + DeserializeOwned + 'static>)
where
    R: Ord + Clone + Debug + Serialize + DeserializeOwned + 'static,
{
    caller::with(Arc::new(InProcess::default()), || {
        let written = keys.into_iter().map(|key| (key, ()));
        Shared::named("keys", OrderedMap::from_iter(written)).unwrap();
        let read = Shared::<OrderedMap<R, ()>>::open("keys").unwrap();
        let first = read.first();
        assert!(matches!(first, Err(Error::Encoding { .. })), "{first:?}");
    });
}
