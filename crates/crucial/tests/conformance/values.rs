//! B: the values of the library, used by cloud threads in processes of their own.

use std::collections::BTreeMap;

use crucial::collections::{Blob, ByteBuf};
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
    assert_eq!((counter.value()?, counter.reset()?), (1205, 1205));
    assert_eq!((counter.value()?, counter.decrement()?), (0, -1));
    Ok(())
}
