//! Barriers, latches and all-reduces against a few rules.

use std::collections::BTreeMap;
use std::fmt::Debug;

use crucial_object::sync::{AllReduce, Barrier, BarrierWaitResult, Latch, Reduction};
use crucial_object::{Error, Pending, Result, Shared};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::floats::{SPECIAL, bits, reduced};
use crate::{answer, check};

/// Whether none of the calls has an answer.
fn all_wait<'a, R: 'a>(calls: impl IntoIterator<Item = &'a mut Pending<R>>) -> bool {
    calls.into_iter().all(|call| answer(call).is_none())
}

fn is_broken<R: Debug>(call: &mut Pending<R>) -> bool {
    matches!(answer(call), Some(Err(Error::Broken { .. })))
}

#[derive(Clone, Debug)]
enum OnBarrier {
    Wait,
    Withdraw(usize),
    Reset,
}

fn holds_its_parties(parties: usize, operations: &[OnBarrier]) -> Result<()> {
    let barrier = Shared::new(Barrier::new(parties))?;
    let mut waiting = Vec::new();
    for operation in operations {
        match operation {
            OnBarrier::Wait => {
                let mut call = barrier.deferred().wait();
                if waiting.len() + 1 < parties {
                    waiting.push(call);
                } else {
                    // The last one leads; all go.
                    let leads = |call: &mut Pending<BarrierWaitResult>| {
                        answer(call).map(|result| result.unwrap().is_leader())
                    };
                    assert_eq!(leads(&mut call), Some(true));
                    assert!(
                        waiting
                            .drain(..)
                            .all(|mut call| leads(&mut call) == Some(false))
                    );
                }
            }
            OnBarrier::Withdraw(place) if *place < waiting.len() => drop(waiting.remove(*place)),
            OnBarrier::Withdraw(_) => {}
            OnBarrier::Reset => {
                barrier.reset()?;
                assert!(waiting.drain(..).all(|mut call| is_broken(&mut call)));
            }
        }
        assert!(all_wait(&mut waiting));
        assert_eq!(barrier.waiting()?, waiting.len() as u64);
        assert_eq!(barrier.parties()?, parties as u64);
    }
    Ok(())
}

#[test]
fn a_barrier_opens_when_all_are_there() {
    let operation = prop_oneof![
        8 => Just(OnBarrier::Wait),
        2 => (0..4usize).prop_map(OnBarrier::Withdraw),
        1 => Just(OnBarrier::Reset),
    ];
    check(operation, |operations| {
        (0..=5).try_for_each(|parties| holds_its_parties(parties, &operations))
    });
}

#[derive(Clone, Debug)]
enum OnLatch {
    CountDown,
    Wait,
    ArriveAndWait,
    Withdraw(usize),
}

fn opens_once(count: u64, operations: &[OnLatch]) -> Result<()> {
    let latch = Shared::new(Latch::new(count))?;
    let mut left = count;
    let mut waiting = Vec::new();
    for operation in operations {
        match operation {
            OnLatch::CountDown => {
                left = left.saturating_sub(1);
                assert_eq!(latch.count_down()?, left);
            }
            OnLatch::Wait => waiting.push(latch.deferred().wait()),
            OnLatch::ArriveAndWait => {
                left = left.saturating_sub(1);
                waiting.push(latch.deferred().arrive_and_wait());
            }
            // A caller that counted and goes has counted.
            OnLatch::Withdraw(place) if *place < waiting.len() => drop(waiting.remove(*place)),
            OnLatch::Withdraw(_) => {}
        }
        if left == 0 {
            assert!(
                waiting
                    .drain(..)
                    .all(|mut call| answer(&mut call) == Some(Ok(())))
            );
        }
        assert!(all_wait(&mut waiting));
        assert_eq!(latch.get()?, left);
    }
    Ok(())
}

#[test]
fn a_latch_opens_at_zero_and_stays_open() {
    let operation = prop_oneof![
        2 => Just(OnLatch::CountDown),
        2 => Just(OnLatch::Wait),
        1 => Just(OnLatch::ArriveAndWait),
        1 => (0..4usize).prop_map(OnLatch::Withdraw),
    ];
    check(operation, |operations| {
        [0, 1, 5, 20]
            .into_iter()
            .try_for_each(|count| opens_once(count, &operations))
    });
}

#[derive(Clone, Debug)]
enum OnReduction {
    /// The party at this place of those that have not given (in this random order of arrival) gives a vector.
    Contribute(usize, Vec<f64>),
    /// One that has given to this round gives again.
    Repeat(usize),
    /// A vector of another length.
    OtherLength(usize),
    /// An unknown party.
    Outsider(u64),
    Withdraw(usize),
    Reset,
}

const LENGTH: usize = 3;

fn on_reduction() -> impl Strategy<Value = OnReduction> {
    use OnReduction::*;
    // Sums of these depend on the order.
    let number = prop_oneof![
        -1.0..1.0f64,
        -1e17..1e17f64,
        any::<f64>(),
        select(&SPECIAL[..])
    ];
    prop_oneof![
        12 => (any::<usize>(), vec(number, LENGTH)).prop_map(|(party, values)| Contribute(party, values)),
        1 => any::<usize>().prop_map(Repeat),
        1 => any::<usize>().prop_map(OtherLength),
        1 => prop_oneof![0..9u64, Just(u64::MAX)].prop_map(Outsider),
        2 => any::<usize>().prop_map(Withdraw),
        1 => Just(Reset),
    ]
}

/// One vector after the other, in the order of their ranks.
fn sequentially(how: Reduction, given: &BTreeMap<u64, Vec<f64>>) -> Vec<u64> {
    let element = |index| {
        let values = given.values().map(|vector| vector[index]);
        reduced(how, &Vec::from_iter(values))
    };
    bits((0..LENGTH).map(element))
}

fn reduces(how: Reduction, parties: u64, operations: Vec<OnReduction>) -> Result<()> {
    use OnReduction::*;
    let all = Shared::new(AllReduce::new(parties as usize, how))?;
    let mut given: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    let mut waiting: BTreeMap<u64, Pending<Vec<f64>>> = BTreeMap::new();
    let mut last = Vec::new();
    for operation in operations {
        let at = |place: usize| given.keys().nth(place % given.len().max(1)).copied();
        match operation {
            Contribute(party, values) => {
                let missing: Vec<u64> = (0..parties)
                    .filter(|rank| !given.contains_key(rank))
                    .collect();
                let rank = missing[party % missing.len()];
                given.insert(rank, values.clone());
                waiting.insert(rank, all.deferred().contribute(rank, values));
                if given.len() as u64 == parties {
                    last = sequentially(how, &given);
                    given.clear();
                    for mut call in std::mem::take(&mut waiting).into_values() {
                        assert_eq!(answer(&mut call).unwrap().map(bits), Ok(last.clone()));
                    }
                }
            }
            Repeat(place) => {
                if let Some(rank) = at(place) {
                    let refused = all.contribute(rank, vec![0.0; LENGTH]);
                    assert!(matches!(refused, Err(Error::BadArguments { .. })));
                }
            }
            OtherLength(rank) => {
                if !given.is_empty() {
                    let refused = all.contribute(rank as u64 % parties, vec![0.0; LENGTH + 1]);
                    assert!(matches!(refused, Err(Error::BadArguments { .. })));
                }
            }
            Outsider(above) => {
                let refused = all.contribute(parties.saturating_add(above), vec![0.0; LENGTH]);
                assert!(matches!(refused, Err(Error::BadArguments { .. })));
            }
            Withdraw(place) => {
                if let Some(rank) = at(place) {
                    given.remove(&rank);
                    waiting.remove(&rank);
                }
            }
            Reset => {
                all.reset()?;
                given.clear();
                let mut broken = std::mem::take(&mut waiting);
                assert!(broken.values_mut().all(is_broken));
            }
        }
        assert!(all_wait(waiting.values_mut()));
        assert_eq!(all.waiting()?, given.len() as u64);
        assert_eq!((bits(all.last()?), all.parties()?), (last.clone(), parties));
    }
    Ok(())
}

#[test]
fn an_all_reduce_is_the_sequential_reduction_whoever_comes_first() {
    let how = select(vec![
        Reduction::Sum,
        Reduction::Mean,
        Reduction::Min,
        Reduction::Max,
    ]);
    check((how, on_reduction()), |operations| {
        let how = operations.first().map_or(Reduction::Sum, |(how, _)| *how);
        let operations = Vec::from_iter(operations.into_iter().map(|(_, operation)| operation));
        [1, 2, 5]
            .into_iter()
            .try_for_each(|parties| reduces(how, parties, operations.clone()))
    });
}
