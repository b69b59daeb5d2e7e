//! C: synchronisation.

use std::time::{Duration, Instant};

use crucial::collections::List;
use crucial::sync::{AtomicI64, Barrier, Semaphore};
use crucial::{Error, Pending, Shared, cloud, thread};
use libtest_mimic::Trial;

use crate::Outcome;
use crate::program::{Program, Proxy, Server};
use crate::trials;
use crate::types::Group;

pub fn trials() -> Vec<Trial> {
    trials![
        c01_nobody_leaves_a_barrier_early_and_one_leads,
        c05_1800_parties_wait_without_a_thread,
        c07_semaphore_blocks_is_fair_and_times_out,
        c07_permits_are_conserved,
        c11_monitors_of_the_users_own_across_processes,
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

fn threads_of_this_process() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

fn c05_1800_parties_wait_without_a_thread() -> Outcome {
    let barrier = Shared::new(Barrier::new(1800))?;
    barrier.waiting()?;
    let before = threads_of_this_process();
    let deferred = barrier.deferred();
    let parties: Vec<Pending<_>> = (0..1799).map(|_| deferred.wait()).collect();
    while barrier.waiting()? < 1799 {}
    // The server is in this process. Other tests start and end a few threads meanwhile.
    assert!(threads_of_this_process() < before + 100);
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
                    .timeout(Duration::from_millis(1))
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
    let server = Server::start(&[])?;
    let proxy = Proxy::start(&server.address)?;
    let mut near = Program::start("wait-at-barrier", Some(&proxy.address))?;
    assert_eq!(near.line()?, "waiting");
    let mut observer = Program::start("watch-barrier", Some(&server.address))?;
    assert_eq!(observer.line()?, "1 of 3 wait");
    for _ in 0..5 {
        proxy.cut();
        // A round trip through the proxy: the client has connected again.
        proxy.wait_for_connection();
    }
    observer.tell("look")?;
    assert_eq!(observer.line()?, "1 of 3 wait");
    observer.tell("join twice")?;
    assert_eq!(near.line()?, "through");
    assert_eq!(observer.line()?, "through");
    Ok(())
}

fn c14_a_waiting_client_that_dies_gives_up_its_place() -> Outcome {
    let server = Server::start(&["--lease-ms", "500"])?;
    let mut dying = Program::start("wait-at-barrier", Some(&server.address))?;
    assert_eq!(dying.line()?, "waiting");
    let mut observer = Program::start("watch-barrier", Some(&server.address))?;
    assert_eq!(observer.line()?, "1 of 3 wait");
    dying.kill()?;
    observer.tell("until nobody waits")?;
    assert_eq!(observer.line()?, "nobody waits");
    Ok(())
}
