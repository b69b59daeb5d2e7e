//! C: synchronisation.

use std::time::{Duration, Instant};

use crucial::collections::List;
use crucial::sync::{AtomicI64, Barrier, Condvar, Mutex, Promise, Semaphore};
use crucial::{Error, Pending, Shared, SharedType, cloud, thread};
use libtest_mimic::{Failed, Trial};

use crate::Outcome;
use crate::place;
use crate::program::Program;
use crate::server::{self, SHORT_LEASE, Server};
use crate::trials;
use crate::types::Group;

pub fn trials() -> Vec<Trial> {
    trials![
        c02_each_round_of_a_barrier_has_one_leader,
        c03_threads_find_a_barrier_by_its_key,
        c08_many_wait_for_a_promise_that_is_set_once,
        c06_two_barriers_for_a_thousand_rounds,
        c16_a_condition_variable_between_threads,
        c01_nobody_leaves_a_barrier_early_and_one_leads,
        c05_1800_parties_wait_without_a_thread,
        c07_semaphore_blocks_is_fair_and_times_out,
        c07_permits_are_conserved,
        c11_monitors_of_the_users_own_across_processes,
        c11_who_does_not_wait_any_longer_gives_up_its_place,
        c12_a_waiting_call_blocks_nobody_else,
        c13_a_lost_connection_while_waiting_is_not_counted_twice,
        c14_a_waiting_client_that_dies_gives_up_its_place,
    ]
}

#[cloud]
fn rounds(
    count: usize,
    parties: i64,
    barrier: Shared<Barrier>,
    arrived: &[Shared<AtomicI64>],
) -> crucial::Result<usize> {
    let mut led = 0;
    for round in &arrived[..count] {
        round.fetch_add(1)?;
        led += usize::from(barrier.wait()?.is_leader());
        assert_eq!(round.load()?, parties, "somebody left early");
    }
    Ok(led)
}

fn c01_nobody_leaves_a_barrier_early_and_one_leads() -> Outcome {
    let barrier = Shared::new(Barrier::new(10))?;
    let arrived: Vec<_> = (0..10)
        .map(|_| Shared::new(AtomicI64::new(0)))
        .collect::<Result<_, _>>()?;
    let led = thread::map(0..10, |_| rounds(10, 10, barrier.clone(), &arrived))?;
    assert_eq!(led.into_iter().sum::<crucial::Result<usize>>()?, 10);
    Ok(())
}

/// Threads of the processes that serve this process.
fn threads_of_servers() -> Result<usize, Failed> {
    let threads =
        |id: u32| std::fs::read_dir(format!("/proc/{id}/task")).map_or(0, Iterator::count);
    Ok(server::processes()?.into_iter().map(threads).sum())
}

fn c05_1800_parties_wait_without_a_thread() -> Outcome {
    let barrier = Shared::new(Barrier::new(1800))?;
    barrier.waiting()?;
    let before = threads_of_servers()?;
    let deferred = barrier.deferred();
    let parties: Vec<Pending<_>> = (0..1799).map(|_| deferred.wait()).collect();
    while barrier.waiting()? < 1799 {}
    // Other rows start and end a few threads meanwhile.
    assert!(threads_of_servers()? < before + 100);
    assert!(barrier.wait()?.is_leader());
    for party in parties {
        assert!(!party.wait()?.is_leader());
    }
    Ok(())
}

fn c07_semaphore_blocks_is_fair_and_times_out() -> Outcome {
    let semaphore = Shared::new(Semaphore::new(0))?;
    assert!(!semaphore.try_acquire()?);
    let start = Instant::now();
    assert!(!semaphore.acquire_timeout(Duration::from_millis(100))?);
    assert!(start.elapsed() >= Duration::from_millis(100));

    let many = semaphore.deferred().acquire_many(3);
    let one = semaphore.deferred().acquire();
    semaphore.release_many(2)?;
    // Two permits are there, but the first in the queue wants three.
    assert!(!semaphore.try_acquire()?);
    assert_eq!(semaphore.waiting()?, 2);
    semaphore.release()?;
    many.wait()?;
    assert_eq!(
        (semaphore.waiting()?, semaphore.available_permits()?),
        (1, 0)
    );
    semaphore.release()?;
    one.wait()?;
    assert_eq!(semaphore.available_permits()?, 0);
    Ok(())
}

#[cloud]
fn borrow_permits(seed: u64, rounds: u64, semaphore: Shared<Semaphore>) -> crucial::Result<()> {
    let mut random = seed;
    for _ in 0..rounds {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let permits = 1 + (random >> 33) % 3;
        match (random >> 40) % 3 {
            0 => drop(semaphore.acquire_many(permits)?),
            1 => {
                let in_time = semaphore
                    .with_timeout(Duration::from_millis(1))
                    .acquire_many(permits);
                match in_time {
                    Ok(_) => {}
                    Err(Error::TimedOut { .. }) => continue,
                    Err(error) => return Err(error),
                }
            }
            _ if !semaphore.try_acquire_many(permits)? => continue,
            _ => {}
        }
        semaphore.release_many(permits)?;
    }
    Ok(())
}

fn c07_permits_are_conserved() -> Outcome {
    let semaphore = Shared::new(Semaphore::new(5))?;
    for result in thread::map(1..=4, |seed| borrow_permits(seed, 2500, semaphore.clone()))? {
        result?;
    }
    assert_eq!(
        (semaphore.available_permits()?, semaphore.waiting()?),
        (5, 0)
    );
    Ok(())
}

#[cloud]
fn member(rounds: usize, group: Shared<Group>, log: Shared<List<u64>>) -> crucial::Result<()> {
    for _ in 0..rounds {
        log.push(group.join()?)?;
    }
    Ok(())
}

fn c11_monitors_of_the_users_own_across_processes() -> Outcome {
    const ROUNDS: usize = 20;
    let group = Shared::new(Group::new(3))?;
    let log = Shared::new(List::new())?;
    let members: Vec<_> = (0..3)
        .map(|_| thread::spawn(member(ROUNDS, group.clone(), log.clone())))
        .collect();
    for round in 0..ROUNDS as u64 {
        assert_eq!(group.full()?, round);
        group.open()?;
    }
    for member in members {
        member.join()??;
    }
    let mut rounds = log.to_vec()?;
    rounds.sort_unstable();
    let expected: Vec<u64> = (0..ROUNDS as u64).flat_map(|round| [round; 3]).collect();
    assert_eq!(rounds, expected);
    Ok(())
}

fn c11_who_does_not_wait_any_longer_gives_up_its_place() -> Outcome {
    let group = Shared::new(Group::new(2))?;
    let member = group.deferred().join();
    let impatient = group.with_timeout(Duration::from_millis(20)).join();
    assert!(matches!(impatient, Err(Error::TimedOut { .. })));
    let full = group.with_timeout(Duration::from_millis(20)).full();
    assert!(matches!(full, Err(Error::TimedOut { .. })));
    let other = group.deferred().join();
    assert_eq!(group.full()?, 0);
    group.open()?;
    assert_eq!((member.wait()?, other.wait()?), (0, 0));
    Ok(())
}

fn c12_a_waiting_call_blocks_nobody_else() -> Outcome {
    let barrier = Shared::new(Barrier::new(2))?;
    let waiting = barrier.deferred().wait();
    // The same object, the same connection.
    assert_eq!((barrier.waiting()?, barrier.parties()?), (1, 2));
    barrier.wait()?;
    waiting.wait()?;
    Ok(())
}

fn c13_a_lost_connection_while_waiting_is_not_counted_twice() -> Outcome {
    let (server, proxies) = Server::behind_proxies(&[])?;
    let server = server.elsewhere(&[(Barrier::NAME, "barrier")])?;
    let mut near = Program::start("wait-at-barrier", Some(&server))?;
    assert_eq!(near.line()?, "waiting");
    for _ in 0..5 {
        proxies.cut();
        // A round trip through a proxy: the client has connected again.
        proxies.wait_for_connection();
    }
    let mut observer = Program::start("watch-barrier", Some(&server))?;
    assert_eq!(observer.line()?, "1 of 3 wait");
    observer.tell("join twice")?;
    assert_eq!(near.line()?, "through");
    assert_eq!(observer.line()?, "through");
    Ok(())
}

fn c14_a_waiting_client_that_dies_gives_up_its_place() -> Outcome {
    let server = Server::start(&SHORT_LEASE)?.elsewhere(&[(Barrier::NAME, "barrier")])?;
    let mut dying = Program::start("wait-at-barrier", Some(&server))?;
    assert_eq!(dying.line()?, "waiting");
    let mut observer = Program::start("watch-barrier", Some(&server))?;
    assert_eq!(observer.line()?, "1 of 3 wait");
    dying.kill()?;
    observer.tell("until nobody waits")?;
    assert_eq!(observer.line()?, "nobody waits");
    Ok(())
}

#[cloud]
fn meet_at(key: String) -> crucial::Result<bool> {
    let barrier: Shared<Barrier> = Shared::open(key)?;
    Ok(barrier.wait()?.is_leader())
}

fn c03_threads_find_a_barrier_by_its_key() -> Outcome {
    let key = place::key::<Barrier>("c03")?;
    Shared::named(&key, Barrier::new(4))?;
    let leaders = thread::map(0..4, |_| meet_at(key.clone()))?;
    let leaders: Vec<bool> = leaders.into_iter().collect::<crucial::Result<_>>()?;
    assert_eq!(leaders.iter().filter(|leads| **leads).count(), 1);
    Ok(())
}

#[cloud]
fn meet_often(
    rounds: u64,
    barrier: Shared<Barrier>,
    sum: Shared<AtomicI64>,
) -> crucial::Result<()> {
    for round in 0..rounds {
        sum.fetch_add(1)?;
        barrier.wait()?;
        // Nobody is a round ahead or behind.
        let arrived = sum.load()?;
        let (least, most) = (4 * (round + 1), 4 * (round + 2));
        assert!(
            (least as i64..=most as i64).contains(&arrived),
            "{round}: {arrived}"
        );
    }
    Ok(())
}

fn c06_two_barriers_for_a_thousand_rounds() -> Outcome {
    let pairs: Vec<_> = (0..2)
        .map(|_| {
            Ok((
                Shared::new(Barrier::new(4))?,
                Shared::new(AtomicI64::new(0))?,
            ))
        })
        .collect::<crucial::Result<_>>()?;
    let ended = thread::map(0..8, |thread: usize| {
        let (barrier, sum) = &pairs[thread % 2];
        meet_often(1000, barrier.clone(), sum.clone())
    })?;
    ended.into_iter().collect::<crucial::Result<()>>()?;
    for (_, sum) in pairs {
        assert_eq!(sum.load()?, 4000);
    }
    Ok(())
}

/// Hands a ball to the next of `players`, who waits for it.
#[cloud]
fn play(
    me: u64,
    players: u64,
    passes: u64,
    ball: Shared<Mutex<u64>>,
    passed: Shared<Condvar>,
) -> crucial::Result<()> {
    for _ in 0..passes {
        let mut guard = ball.lock()?;
        guard = passed.wait_while(guard, |ball| *ball % players != me)?;
        *guard += 1;
        guard.unlock()?;
        passed.notify_all()?;
    }
    Ok(())
}

fn c16_a_condition_variable_between_threads() -> Outcome {
    let (ball, passed) = (Shared::new(Mutex::new(0))?, Shared::new(Condvar::new())?);
    let ended = thread::map(0..3, |me| play(me, 3, 20, ball.clone(), passed.clone()))?;
    ended.into_iter().collect::<crucial::Result<()>>()?;
    assert_eq!(ball.get()?, 60);
    // Without a notification the wait times out, and the lock is held again.
    let (guard, result) = passed.wait_timeout(ball.lock()?, Duration::from_millis(20))?;
    assert!(result.timed_out() && ball.is_held_by(guard.token())?);
    Ok(())
}

#[cloud]
fn lead_how_often(rounds: u64, barrier: Shared<Barrier>) -> crucial::Result<u64> {
    let mut led = 0;
    for _ in 0..rounds {
        led += u64::from(barrier.wait()?.is_leader());
    }
    Ok(led)
}

fn c02_each_round_of_a_barrier_has_one_leader() -> Outcome {
    let barrier = Shared::new(Barrier::new(5))?;
    let led = thread::map(0..5, |_| lead_how_often(20, barrier.clone()))?;
    let led: Vec<u64> = led.into_iter().collect::<crucial::Result<_>>()?;
    assert_eq!(led.iter().sum::<u64>(), 20, "{led:?}");
    Ok(())
}

#[cloud]
fn get(promise: Shared<Promise<String>>) -> crucial::Result<String> {
    promise.wait()
}

fn c08_many_wait_for_a_promise_that_is_set_once() -> Outcome {
    let promise = Shared::new(Promise::new())?;
    assert_eq!(promise.get()?, None);
    let impatient = promise.with_timeout(Duration::from_millis(20)).wait();
    assert!(matches!(impatient, Err(Error::TimedOut { .. })));
    let waiting: Vec<_> = (0..10).map(|_| promise.deferred().wait()).collect();
    let threads: Vec<_> = (0..3)
        .map(|_| thread::spawn(get(promise.clone())))
        .collect();
    assert!(promise.set("first".to_owned())?);
    assert!(!promise.set("second".to_owned())?);
    for pending in waiting {
        assert_eq!(pending.wait()?, "first");
    }
    for thread in threads {
        assert_eq!(thread.join()??, "first");
    }
    assert!(promise.is_set()?);
    Ok(())
}
