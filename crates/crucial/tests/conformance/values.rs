//! B: the values of the library, used by cloud threads in processes of their own. K13: which of them are equal.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};

use crucial::collections::{Blob, ByteBuf, List, Map, OrderedMap, Set};
use crucial::sync::{AtomicBool, AtomicCell, AtomicI64, AtomicU64, Counter};
use crucial::{Error, Shared, cloud, thread};
use libtest_mimic::Trial;
use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::library::run_all;
use crate::trials;

pub fn trials() -> Vec<Trial> {
    trials![
        b01_atomics_are_updated_by_many_processes,
        b01_an_update_that_is_always_overtaken_gives_up,
        b02_multiplications_run_on_the_server,
        b04_blobs_of_1_kb_1_mb_and_64_mb,
        b05_a_cell_holds_any_serde_type,
        b06_a_counter_counts_for_all,
        k13_an_update_notices_changes_and_compares_no_values,
        k13_values_are_equal_if_their_encodings_are,
    ]
}

#[cloud]
fn update_atomics(
    bit: u32,
    sum: Shared<AtomicI64>,
    bits: Shared<AtomicU64>,
    largest: Shared<AtomicI64>,
    flag: Shared<AtomicBool>,
) -> crucial::Result<bool> {
    for _ in 0..50 {
        sum.fetch_add(3)?;
        sum.fetch_sub(1)?;
        assert!(sum.fetch_update(|value| Some(value + 1))?.is_ok());
    }
    bits.fetch_or(1 << bit)?;
    bits.fetch_xor(1 << 40)?;
    bits.fetch_and(!(1 << 63))?;
    largest.fetch_max(i64::from(bit))?;
    Ok(flag.compare_exchange(false, true)?.is_ok())
}

fn b01_atomics_are_updated_by_many_processes() -> Outcome {
    let (sum, largest) = (
        Shared::new(AtomicI64::new(-1))?,
        Shared::new(AtomicI64::new(-1))?,
    );
    let (bits, flag) = (
        Shared::new(AtomicU64::new(1 << 63))?,
        Shared::new(AtomicBool::new(false))?,
    );
    let winners = thread::map(0..6, |bit| {
        update_atomics(
            bit,
            sum.clone(),
            bits.clone(),
            largest.clone(),
            flag.clone(),
        )
    })?;
    let winners = winners
        .into_iter()
        .collect::<crucial::Result<Vec<bool>>>()?;
    assert_eq!(winners.iter().filter(|won| **won).count(), 1);
    assert!(flag.load()?);
    assert_eq!(sum.load()?, 6 * 50 * 3 - 1);
    assert_eq!((bits.load()?, largest.load()?), (0b11_1111, 5));
    assert_eq!(
        (largest.fetch_min(2)?, largest.swap(9)?, largest.load()?),
        (5, 2, 9)
    );
    Ok(())
}

fn b01_an_update_that_is_always_overtaken_gives_up() -> Outcome {
    let atomic = Shared::new(AtomicI64::new(0))?;
    let rival = atomic.clone();
    let mut tries = 0;
    let update = atomic.fetch_update(|value| {
        tries += 1;
        rival.store(value + 1).expect("the server is there");
        Some(0)
    });
    assert!(matches!(update, Err(Error::LimitExceeded { max, .. }) if max == tries));
    assert_eq!(atomic.load()?, tries as i64);
    Ok(())
}

#[cloud]
fn multiply(
    times: u64,
    simple: Shared<AtomicU64>,
    complex: Shared<AtomicU64>,
) -> crucial::Result<()> {
    for _ in 0..times {
        simple.fetch_mul(3)?;
    }
    complex.fetch_mul_times(3, 10_000)?;
    Ok(())
}

fn b02_multiplications_run_on_the_server() -> Outcome {
    let (simple, complex) = (
        Shared::new(AtomicU64::new(1))?,
        Shared::new(AtomicU64::new(1))?,
    );
    run_all([50; 4], |times| {
        multiply(times, simple.clone(), complex.clone())
    })?;
    assert_eq!(simple.load()?, 3u64.wrapping_pow(200));
    assert_eq!(complex.load()?, 3u64.wrapping_pow(40_000));
    Ok(())
}

/// Bytes that are not the same everywhere.
fn pattern(len: usize) -> Vec<u8> {
    let words = (0..len as u64 / 8).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    words.flat_map(u64::to_le_bytes).collect()
}

#[cloud]
fn write_pattern(len: usize, blob: Shared<Blob>) -> crucial::Result<()> {
    blob.set(ByteBuf::from(pattern(len)))
}

fn b04_blobs_of_1_kb_1_mb_and_64_mb() -> Outcome {
    for len in [1 << 10, 1 << 20, 64 << 20] {
        let blob = Shared::new(Blob::default())?;
        thread::spawn(write_pattern(len, blob.clone())).join()??;
        let expected = pattern(len);
        assert_eq!(blob.len()?, len as u64);
        assert!(*blob.get()? == expected, "{len} bytes");
        let end = len as u64 - 100;
        assert_eq!(*blob.read_at(end, 1000)?, expected[end as usize..]);
        blob.write_at(end, ByteBuf::from(vec![7; 200]))?;
        assert_eq!(blob.append(ByteBuf::from(vec![8]))?, len as u64 + 100);
        assert_eq!(*blob.read_at(len as u64 + 98, u64::MAX)?, [7, 7, 8]);
        blob.delete()?;
    }
    Ok(())
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Best {
    score: f64,
    by: Option<String>,
    tries: BTreeMap<String, u32>,
}

#[cloud]
fn improve(name: &str, cell: Shared<AtomicCell<Best>>) -> crucial::Result<()> {
    for n in 0..30 {
        cell.update(|mut best| {
            *best.tries.entry(name.to_owned()).or_default() += 1;
            if f64::from(n) > best.score {
                best = Best {
                    score: f64::from(n),
                    by: Some(name.to_owned()),
                    ..best
                };
            }
            best
        })?;
    }
    Ok(())
}

fn b05_a_cell_holds_any_serde_type() -> Outcome {
    let cell = Shared::new(AtomicCell::new(Best::default()))?;
    let names = ["ann", "bob", "eve"];
    run_all(names, |name| improve(name, cell.clone()))?;
    let best = cell.get()?;
    assert_eq!(best.score, 29.0);
    assert!(best.by.as_deref().is_some_and(|by| names.contains(&by)));
    assert_eq!(best.tries, names.map(|name| (name.to_owned(), 30)).into());
    assert!(!cell.compare_and_set(Best::default(), best.clone())?);
    assert!(cell.compare_and_set(best.clone(), Best::default())?);
    assert_eq!(cell.swap(best.clone())?, Best::default());
    cell.set(Best {
        score: f64::NEG_INFINITY,
        ..best.clone()
    })?;
    assert_eq!(
        cell.get()?,
        Best {
            score: f64::NEG_INFINITY,
            ..best
        }
    );
    Ok(())
}

#[cloud]
fn count(counter: Shared<Counter>) -> crucial::Result<()> {
    for _ in 0..100 {
        counter.increment()?;
        counter.add(3)?;
        counter.decrement()?;
    }
    Ok(())
}

fn b06_a_counter_counts_for_all() -> Outcome {
    let counter = Shared::new(Counter::new(5))?;
    run_all(0..4, |_| count(counter.clone()))?;
    assert_eq!((counter.get()?, counter.reset()?), (1205, 1205));
    assert_eq!((counter.get()?, counter.decrement()?), (0, -1));
    Ok(())
}

thread_local! {
    static ENCODED: Cell<u64> = const { Cell::new(0) };
}

/// A set of numbers that is never encoded twice alike, as one in the order of its memory may be.
#[derive(Clone, Debug, Deserialize)]
struct Restless(Vec<u64>);

impl Serialize for Restless {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let turns = ENCODED.replace(ENCODED.get() + 1);
        let mut numbers = self.0.clone();
        numbers.rotate_left(turns as usize % self.0.len());
        numbers.serialize(serializer)
    }
}

#[cloud]
fn add_all(cell: Shared<AtomicCell<Restless>>, times: u64) -> crucial::Result<()> {
    for _ in 0..times {
        cell.update(|Restless(numbers)| {
            Restless(numbers.iter().map(|number| number + 1).collect())
        })?;
    }
    Ok(())
}

fn k13_an_update_notices_changes_and_compares_no_values() -> Outcome {
    // A value that is not equal to itself.
    let cell = Shared::new(AtomicCell::new(f64::NAN))?;
    let mut tries = 0;
    let updated = cell.update(|value| {
        tries += 1;
        if value.is_nan() { f64::NAN } else { 1.0 }
    })?;
    assert!(updated.is_nan() && tries == 1);
    assert_eq!(
        cell.update(|value| if value.is_nan() { 2.0 } else { value })?,
        2.0
    );
    // One that changed and changed back meanwhile has changed.
    let mut seen = Vec::new();
    cell.update(|value| {
        if seen.is_empty() {
            cell.set(3.0)
                .and_then(|()| cell.set(value))
                .expect("the server is there");
        }
        seen.push(value);
        value + 1.0
    })?;
    assert_eq!((seen, cell.get()?), (vec![2.0, 2.0], 3.0));
    // Also one that was made anew.
    let make = |value: u64| {
        let cell = Shared::builder("k13-cell").recreate();
        cell.create(AtomicCell::new(value))
    };
    let cell = make(1)?;
    let mut seen = Vec::new();
    cell.update(|value| {
        if seen.is_empty() {
            make(5).expect("the server is there");
        }
        seen.push(value);
        value + 1
    })?;
    assert_eq!((seen, cell.get()?), (vec![1, 5], 6));
    // Encodings need not be the same each time; many update at once, and no update is lost.
    let cell = Shared::new(AtomicCell::new(Restless(vec![0, 0, 0])))?;
    run_all([20; 3], |times| add_all(cell.clone(), times))?;
    assert_eq!(cell.get()?.0, [60; 3]);
    Ok(())
}

/// Equal whatever the note is; by its encoding it is not.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Noted {
    id: u64,
    note: String,
}

impl PartialEq for Noted {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

fn k13_values_are_equal_if_their_encodings_are() -> Outcome {
    // Collections without an order, wherever they are.
    let table = || -> HashMap<String, HashSet<u64>> {
        (0..50u64)
            .map(|n| (n.to_string(), (0..n).collect()))
            .collect()
    };
    let cell = Shared::new(AtomicCell::new(table()))?;
    assert!(cell.compare_and_set(table(), table())?);
    let updated = cell.update(|mut table| {
        table.clear();
        table
    })?;
    assert!(updated.is_empty());
    let list = Shared::new(List::from(vec![table()]))?;
    assert!(list.contains(&table())? && list.position(&table())? == Some(0));
    assert!(list.remove_item(&table())?);
    let set = Shared::new(Set::new())?;
    let item = || -> Vec<HashSet<u64>> { vec![(0..50).collect()] };
    assert!(set.insert(item())? && !set.insert(item())? && set.contains(&item())?);
    // Floating-point numbers are their bits. Where keys are in order they are their values.
    let numbers = Shared::new(List::from(vec![0.0, f64::NAN]))?;
    assert_eq!(
        (numbers.position(&-0.0)?, numbers.position(&0.0)?),
        (None, Some(0))
    );
    assert!(numbers.contains(&f64::NAN)? && !numbers.contains(&-f64::NAN)?);
    let numbers = Shared::new(Set::from_iter(Vec::<Number>::new()))?;
    for (number, is_new) in [
        (0.0, true),
        (-0.0, true),
        (0.0, false),
        (f64::NAN, true),
        (f64::NAN, false),
    ] {
        assert_eq!(numbers.insert(Number(number))?, is_new, "{number}");
    }
    let map = Shared::new(Map::<Number, u8>::new())?;
    assert_eq!(map.insert(Number(0.0), 1)?, None);
    assert_eq!(
        (map.get(&Number(-0.0))?, map.insert(Number(-0.0), 2)?),
        (None, None)
    );
    let ordered = Shared::new(OrderedMap::<Number, u8>::new())?;
    assert_eq!(ordered.insert(Number(0.0), 1)?, None);
    assert_eq!(
        (ordered.get(&Number(-0.0))?, ordered.get(&Number(f64::NAN))?),
        (Some(1), None)
    );
    let cell = Shared::new(AtomicCell::new(0.0))?;
    assert!(!cell.compare_and_set(-0.0, 1.0)? && cell.compare_and_set(0.0, f64::NAN)?);
    assert!(cell.compare_and_set(f64::NAN, 1.0)?);
    // An equality that is written by hand is not asked.
    let noted = |note: &str| Noted {
        id: 1,
        note: note.to_owned(),
    };
    let list = Shared::new(List::from(vec![noted("a")]))?;
    assert_eq!(noted("a"), noted("b"));
    assert!(list.contains(&noted("a"))? && !list.contains(&noted("b"))?);
    Ok(())
}

/// A key that the standard library's maps do not take.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Number(f64);

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}
