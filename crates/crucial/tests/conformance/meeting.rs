//! C: ways to meet and to wait for values, across processes.

use crucial::sync::{AllReduce, Barrier, Latch, Promise, Reduction};
use crucial::{Error, Pending, Shared, cloud, thread};
use libtest_mimic::Trial;

use crate::Outcome;
use crate::trials;
use crate::types::Probe;

pub fn trials() -> Vec<Trial> {
    trials![
        c04_a_reset_breaks_those_who_wait,
        c09_counting_a_latch_down_too_often_is_harmless,
        c10_a_barrier_has_any_number_of_parties,
        c15_the_client_learns_of_promises_without_polling,
        c15_the_client_learns_of_a_reduction_without_polling,
        c17_all_reduce_gives_all_the_sum_in_each_round,
    ]
}

#[cloud]
fn wait_at(barrier: Shared<Barrier>) -> crucial::Result<bool> {
    barrier.wait().map(|result| result.is_leader())
}

fn c04_a_reset_breaks_those_who_wait() -> Outcome {
    let barrier = Shared::new(Barrier::new(5))?;
    let waiters: Vec<_> = (0..4)
        .map(|_| thread::spawn(wait_at(barrier.clone())))
        .collect();
    while barrier.waiting()? < 4 {}
    barrier.reset()?;
    for waiter in waiters {
        let broken = waiter.join()?;
        assert!(
            matches!(&broken, Err(Error::Broken { what }) if what == "crucial::Barrier"),
            "{broken:?}"
        );
    }
    // Only that round is broken.
    assert_eq!(barrier.waiting()?, 0);
    let led = thread::map(0..5, |_| wait_at(barrier.clone()))?;
    let led = led.into_iter().collect::<crucial::Result<Vec<bool>>>()?;
    assert_eq!(led.into_iter().filter(|leads| *leads).count(), 1);
    Ok(())
}

#[cloud]
fn count_down(latch: Shared<Latch>) -> crucial::Result<u64> {
    latch.count_down()
}

fn c09_counting_a_latch_down_too_often_is_harmless() -> Outcome {
    let latch = Shared::new(Latch::new(3))?;
    let waiting = latch.deferred().wait();
    let mut left = thread::map(0..8, |_| count_down(latch.clone()))?
        .into_iter()
        .collect::<crucial::Result<Vec<u64>>>()?;
    left.sort_unstable();
    assert_eq!(left, [0, 0, 0, 0, 0, 0, 1, 2]);
    waiting.wait()?;
    assert_eq!(latch.get()?, 0);
    // The latch stays open.
    latch.wait()?;
    latch.arrive_and_wait()?;
    Ok(())
}

#[cloud]
fn meet(rounds: usize, barrier: Shared<Barrier>) -> crucial::Result<usize> {
    let mut led = 0;
    for _ in 0..rounds {
        led += usize::from(barrier.wait()?.is_leader());
    }
    Ok(led)
}

fn c10_a_barrier_has_any_number_of_parties() -> Outcome {
    for parties in [1, 2, 3, 7, 20] {
        let barrier = Shared::new(Barrier::new(parties))?;
        let led = thread::map(0..parties, |_| meet(5, barrier.clone()))?;
        assert_eq!(
            led.into_iter().sum::<crucial::Result<usize>>()?,
            5,
            "{parties} parties"
        );
        assert_eq!(
            (barrier.parties()?, barrier.waiting()?),
            (parties as u64, 0)
        );
    }
    Ok(())
}

#[cloud]
fn keep_promise(n: u64, promise: Shared<Promise<(u64, String)>>) -> crucial::Result<bool> {
    promise.set((n * n, format!("from {n}")))
}

fn c15_the_client_learns_of_promises_without_polling() -> Outcome {
    let promises = (0..20).map(|_| Shared::new(Promise::new()));
    let promises = promises.collect::<crucial::Result<Vec<_>>>()?;
    // One call for each, which waits on the server; and several may wait for one value.
    let results: Vec<Pending<_>> = promises
        .iter()
        .map(|promise| promise.deferred().wait())
        .collect();
    let again = promises[7].deferred().wait();
    let tasks: Vec<_> = promises
        .iter()
        .zip(0..)
        .map(|(promise, n)| thread::spawn(keep_promise(n, promise.clone())))
        .collect();
    for (result, n) in results.into_iter().zip(0..) {
        assert_eq!(result.wait()?, (n * n, format!("from {n}")));
    }
    assert_eq!(again.wait()?.0, 49);
    for task in tasks {
        assert!(task.join()??);
    }
    // A promise is set once.
    assert!(!promises[3].set((0, String::new()))?);
    assert_eq!(promises[3].wait()?.0, 9);
    Ok(())
}

#[cloud]
fn reduce(n: i64, total: Shared<Probe>) -> crucial::Result<()> {
    total.add(n).map(drop)
}

fn c15_the_client_learns_of_a_reduction_without_polling() -> Outcome {
    let total = Shared::new(Probe::default())?;
    let all = total.deferred().at_least(210);
    let tasks: Vec<_> = (1..=20)
        .map(|n| thread::spawn(reduce(n, total.clone())))
        .collect();
    assert_eq!(all.wait()?, 210);
    for task in tasks {
        task.join()??;
    }
    Ok(())
}

const PARTIES: u64 = 8;
const ROUNDS: u64 = 20;

/// What a party gives in a round: numbers whose sum depends on the order of the additions.
fn given(rank: u64, round: u64) -> Vec<f64> {
    let number = |place: u64| {
        (1.0 + (rank * 31 + round * 7 + place) as f64).recip() * 10f64.powi(rank as i32 * 2)
    };
    (0..5).map(number).collect()
}

/// The bits of the sums, one rank after the other.
fn summed(round: u64) -> Vec<u64> {
    let sum = |place: usize| {
        (1..PARTIES).fold(given(0, round)[place], |sum, rank| {
            sum + given(rank, round)[place]
        })
    };
    (0..5).map(|place| sum(place).to_bits()).collect()
}

#[cloud]
fn contribute(rank: u64, all: Shared<AllReduce>) -> crucial::Result<Vec<Vec<f64>>> {
    (0..ROUNDS)
        .map(|round| all.contribute(rank, given(rank, round)))
        .collect()
}

fn c17_all_reduce_gives_all_the_sum_in_each_round() -> Outcome {
    let all = Shared::new(AllReduce::new(PARTIES as usize, Reduction::Sum))?;
    for results in thread::map(0..PARTIES, |rank| contribute(rank, all.clone()))? {
        let results = results?;
        assert_eq!(results.len() as u64, ROUNDS);
        for (sums, round) in results.into_iter().zip(0..) {
            let bits: Vec<u64> = sums.into_iter().map(f64::to_bits).collect();
            assert_eq!(bits, summed(round), "round {round}");
        }
    }
    assert_eq!(all.waiting()?, 0);
    let last: Vec<u64> = all.last()?.into_iter().map(f64::to_bits).collect();
    assert_eq!(last, summed(ROUNDS - 1));
    Ok(())
}
