//! C14: what the dead held comes back. Cancelled threads, and threads that run exactly once.

use std::time::{Duration, Instant};

use crucial::collections::{List, Map, Merge};
use crucial::sync::{AtomicI64, Barrier, Latch, Mutex, OnceLock, RwLock, Semaphore};
use crucial::{Error, Shared, SharedType, cloud, thread};
use crucial_object::caller;
use libtest_mimic::{Failed, Trial};
use rustix::process::Signal;

use crate::Outcome;
use crate::program::{Program, read_command};
use crate::server::{SHORT_LEASE, Server};
use crate::trials;
use crate::types::Desk;

pub fn trials() -> Vec<Trial> {
    trials![
        c14_what_a_dead_process_held_comes_back,
        c14_a_dead_waiter_gives_up_its_place,
        c14_a_holder_that_was_taken_for_dead_is_fenced,
        c14_a_holder_of_permits_that_was_taken_for_dead_gives_nothing_back,
        c14_a_retried_thread_takes_the_place_of_its_attempt,
        c14_what_a_failed_thread_held_comes_back_at_once,
        c14_a_lock_of_the_users_own_comes_back_from_a_failed_thread,
        f05_a_cancelled_thread_changes_nothing_more,
        f05_a_cancelled_thread_in_this_process_changes_nothing_more,
        e01_a_thread_that_dies_again_and_again_runs_exactly_once,
        e01_an_exactly_once_thread_keeps_its_places_and_locks,
        e01_an_exactly_once_thread_that_panics_has_its_guards_still,
        e01_an_exactly_once_thread_starts_no_threads,
        e01_a_thread_that_leaves_its_record_is_told_where,
        e01_sixty_four_threads_of_which_half_die,
        i06_a_killed_worker_resumes_at_the_shared_iteration_count,
    ]
}

/// Programs that the tests start.
pub fn program(name: &str) -> Option<crucial::Result<()>> {
    match name {
        "hold-permits" => Some(hold_permits()),
        "hold-all" => Some(hold_all()),
        "wait-for-permit" => Some(wait_for_permit()),
        "cancel-in-process" => Some(cancel_in_process()),
        _ => None,
    }
}

struct Held {
    semaphore: Shared<Semaphore>,
    mutex: Shared<Mutex<String>>,
    lock: Shared<RwLock<u8>>,
    once: Shared<OnceLock<u8>>,
}

/// A server, and a namespace in which what is held is not at the server that clients name first.
fn server_elsewhere() -> Result<Server, Failed> {
    Server::start(&SHORT_LEASE)?.elsewhere(&[
        (Semaphore::NAME, "permits"),
        (Mutex::<String>::NAME, "mutex"),
        (RwLock::<u8>::NAME, "lock"),
        (OnceLock::<u8>::NAME, "once"),
    ])
}

fn held() -> crucial::Result<Held> {
    Ok(Held {
        semaphore: Shared::builder("permits")
            .persistent()
            .create(Semaphore::new(2))?,
        mutex: Shared::builder("mutex")
            .persistent()
            .create(Mutex::new("as it was".to_owned()))?,
        lock: Shared::builder("lock")
            .persistent()
            .create(RwLock::new(1))?,
        once: Shared::builder("once")
            .persistent()
            .create(OnceLock::new())?,
    })
}

fn hold_all() -> crucial::Result<()> {
    let held = held()?;
    held.semaphore.acquire_many(2)?;
    let mut guard = held.mutex.lock()?;
    guard.push_str(", changed by the holder");
    let _lock = held.lock.write()?;
    held.once.get_or_try_init(|| {
        println!("token {}", guard.token());
        read_command();
        Ok(1)
    })?;
    match guard.unlock() {
        Err(error) => println!("{}", error.kind()),
        Ok(()) => println!("unlocked"),
    }
    Ok(())
}

fn token(line: &str) -> Result<u64, Failed> {
    Ok(line.strip_prefix("token ").ok_or("no token")?.parse()?)
}

fn c14_what_a_dead_process_held_comes_back() -> Outcome {
    let server = server_elsewhere()?;
    let mut holder = Program::start("hold-all", Some(&server))?;
    let first = token(&holder.line()?)?;
    caller::with(server.client()?, || -> Outcome {
        let held = held()?;
        assert!(!held.semaphore.try_acquire()?);
        assert!(held.mutex.try_lock()?.is_none());
        assert!(held.lock.try_read()?.is_none());
        // A client that waits for the permits gets them when the holder's lease has lapsed.
        let permits = held.semaphore.deferred().acquire_many(2);
        holder.kill()?;
        permits.wait()?;
        let mut guard = held.mutex.lock()?;
        assert_eq!(*guard, "as it was");
        assert!(guard.token() > first);
        guard.push('!');
        guard.unlock()?;
        assert_eq!(held.mutex.get()?, "as it was!");
        assert_eq!(*held.lock.write()?, 1);
        assert_eq!(held.once.get_or_init(|| 2)?, 2);
        assert_eq!(held.once.get_or_init(|| 3)?, 2);
        Ok(())
    })
}

fn wait_for_permit() -> crucial::Result<()> {
    let permits = held()?.semaphore;
    let waiting = permits.deferred().acquire_many(2);
    permits.available_permits()?;
    println!("waiting");
    waiting.wait()?;
    println!("has it");
    read_command();
    Ok(())
}

fn c14_a_dead_waiter_gives_up_its_place() -> Outcome {
    let server = server_elsewhere()?;
    caller::with(server.client()?, || -> Outcome {
        let permits = held()?.semaphore;
        permits.acquire()?;
        let mut waiter = Program::start("wait-for-permit", Some(&server))?;
        assert_eq!(waiter.line()?, "waiting");
        // One permit is free, but the waiter, who wants two, comes first.
        let second = permits.deferred().acquire();
        assert_eq!(permits.waiting()?, 2);
        waiter.kill()?;
        second.wait()?;
        assert_eq!(
            (permits.available_permits()?, permits.held_permits()?),
            (0, 2)
        );
        Ok(())
    })
}

fn c14_a_holder_that_was_taken_for_dead_is_fenced() -> Outcome {
    let server = server_elsewhere()?;
    let mut holder = Program::start("hold-all", Some(&server))?;
    let first = token(&holder.line()?)?;
    caller::with(server.client()?, || -> Outcome {
        let held = held()?;
        holder.signal(Signal::STOP)?;
        let guard = held.mutex.lock()?;
        assert!(guard.token() > first);
        holder.signal(Signal::CONT)?;
        holder.tell("go on")?;
        // The holder learns that its session has ended, or that the lock is lost if it has begun another by then; what
        // it would have written is not. The value and the lock may be at two servers, so either can tell it.
        let said = holder.line()?;
        let expected = [
            "gave up this client's session",
            "holds nothing any more",
            "SessionExpired",
            "LockLost",
        ];
        assert!(expected.iter().any(|words| said.contains(words)), "{said}");
        drop(guard);
        assert_eq!(held.mutex.get()?, "as it was");
        Ok(())
    })
}

fn hold_permits() -> crucial::Result<()> {
    let semaphore = held()?.semaphore;
    let permits = semaphore.permits(2)?;
    println!("token {}", permits.token());
    read_command();
    // The first call behind the lapse may hear of nothing but that.
    while let Err(Error::SessionExpired) = semaphore.available_permits() {}
    match permits.release() {
        Err(error) => println!("{}", error.kind()),
        Ok(()) => println!("released"),
    }
    Ok(())
}

fn c14_a_holder_of_permits_that_was_taken_for_dead_gives_nothing_back() -> Outcome {
    let server = server_elsewhere()?;
    let mut holder = Program::start("hold-permits", Some(&server))?;
    let first = token(&holder.line()?)?;
    caller::with(server.client()?, || -> Outcome {
        let semaphore = held()?.semaphore;
        holder.signal(Signal::STOP)?;
        let permits = semaphore.permits(2)?;
        assert!(permits.token() > first);
        holder.signal(Signal::CONT)?;
        holder.tell("go on")?;
        assert_eq!(holder.line()?, "LockLost");
        assert_eq!(
            (semaphore.available_permits()?, semaphore.held_permits()?),
            (0, 2)
        );
        permits.release()?;
        assert_eq!(semaphore.available_permits()?, 2);
        Ok(())
    })
}

/// Waits at the barrier; the first attempt dies there.
#[cloud]
fn wait_at(barrier: Shared<Barrier>, arrived: Shared<Latch>) -> crucial::Result<bool> {
    let waiting = barrier.deferred().wait();
    // Behind it on the same connection, so the barrier has it.
    arrived.count_down()?;
    if thread::current().is_some_and(|thread| thread.attempt() == 1) {
        std::process::abort();
    }
    waiting.wait()?;
    Ok(true)
}

fn c14_a_retried_thread_takes_the_place_of_its_attempt() -> Outcome {
    let (barrier, arrived) = (Shared::new(Barrier::new(3))?, Shared::new(Latch::new(2))?);
    let retried = thread::Builder::new()
        .retries(1)
        .spawn(wait_at(barrier.clone(), arrived.clone()))?;
    arrived.wait()?;
    assert_eq!(barrier.waiting()?, 1);
    let other = barrier.deferred().wait();
    assert_eq!(barrier.waiting()?, 2);
    barrier.wait()?;
    other.wait()?;
    assert!(retried.join()??);
    Ok(())
}

#[cloud]
fn fail_with(permits: Shared<Semaphore>, how: String) -> crucial::Result<()> {
    permits.acquire()?;
    match how.as_str() {
        "panic" => panic!("with a permit"),
        "die" => std::process::abort(),
        _ => loop {
            permits.available_permits()?;
        },
    }
}

fn c14_what_a_failed_thread_held_comes_back_at_once() -> Outcome {
    let permits = Shared::new(Semaphore::new(1))?;
    let start = Instant::now();
    for how in ["panic", "die", "take for ever"] {
        let thread = thread::Builder::new().time_limit(Duration::from_secs(2));
        let failed = thread.spawn(fail_with(permits.clone(), how.to_owned()))?;
        assert!(failed.join().is_err());
        permits.acquire()?;
        permits.release()?;
    }
    // And not only when their leases lapsed.
    assert!(
        start.elapsed() < Duration::from_secs(9),
        "{:?}",
        start.elapsed()
    );
    Ok(())
}

#[cloud]
fn sit_and_die(desk: Shared<Desk>) -> crucial::Result<()> {
    desk.sit()?;
    std::process::abort()
}

fn c14_a_lock_of_the_users_own_comes_back_from_a_failed_thread() -> Outcome {
    let desk = Shared::new(Desk::default())?;
    assert_eq!(desk.sit()?, 1);
    let failed = thread::spawn(sit_and_die(desk.clone()));
    desk.stand_up()?;
    assert!(failed.join().is_err());
    assert_eq!(desk.sit()?, 3);
    assert!(desk.is_mine()?);
    Ok(())
}

#[cloud]
fn count_for_ever(
    counter: Shared<AtomicI64>,
    permits: Shared<Semaphore>,
    begun: Shared<Latch>,
) -> crucial::Result<()> {
    permits.acquire()?;
    loop {
        counter.fetch_add(1)?;
        begun.count_down()?;
    }
}

fn cancel_one() -> crucial::Result<()> {
    let counter = Shared::new(AtomicI64::new(0))?;
    let permits = Shared::new(Semaphore::new(1))?;
    let begun = Shared::new(Latch::new(10))?;
    let task = count_for_ever(counter.clone(), permits.clone(), begun.clone());
    let thread = thread::Builder::new().retries(5).spawn(task)?;
    begun.wait()?;
    thread.cancel()?;
    // Its permit is here, and nothing changes any more.
    permits.acquire()?;
    let count = counter.load()?;
    assert!(count >= 10);
    for _ in 0..1000 {
        assert_eq!(counter.load()?, count);
    }
    thread.cancel()?;
    assert_eq!(thread.join(), Err(Error::Cancelled));
    assert_eq!(counter.load()?, count);

    // One that has ended keeps its result.
    let ended = thread::spawn(nothing());
    ended.wait_timeout(Duration::from_secs(60));
    ended.cancel()?;
    ended.join()
}

#[cloud]
fn nothing() {}

fn f05_a_cancelled_thread_changes_nothing_more() -> Outcome {
    Ok(cancel_one()?)
}

fn cancel_in_process() -> crucial::Result<()> {
    cancel_one()?;
    println!("cancelled");
    Ok(())
}

fn f05_a_cancelled_thread_in_this_process_changes_nothing_more() -> Outcome {
    let mut command = Program::command("cancel-in-process")?;
    command.env("CRUCIAL_PLATFORM", "in-process");
    assert_eq!(Program::start_command(command)?.output()?, "cancelled\n");
    Ok(())
}

/// What an exactly-once thread has seen.
type Seen = (Vec<i64>, Vec<u64>, Vec<u128>, u64);

/// Adds `calls` times; dies in its first attempts, each time a little later.
#[cloud]
fn add_and_die(
    calls: u64,
    counter: Shared<AtomicI64>,
    words: Shared<Map<String, u64>>,
    list: Shared<List<u64>>,
) -> crucial::Result<Seen> {
    let attempt = thread::current().map_or(0, |thread| thread.attempt());
    let (mut sums, mut randoms, mut times) = (Vec::new(), Vec::new(), Vec::new());
    let own: Shared<AtomicI64> = Shared::new(AtomicI64::new(0))?;
    for call in 0..calls {
        sums.push(counter.fetch_add(1)?);
        let random = thread::random()?;
        list.push(random)?;
        randoms.push(random);
        if call % 10 == 0 {
            let time = thread::now()?.duration_since(std::time::UNIX_EPOCH);
            times.push(time.unwrap_or_default().as_nanos());
        }
        words.merge_all(vec![("calls".to_owned(), 1)], Merge::Sum)?;
        own.fetch_add(2)?;
        // Reads are recorded, too: they decide what comes next.
        assert_eq!(list.get(call)?, Some(random));
        if call == calls / 4 || call == calls / 2 {
            // A call in flight: when the first and the second attempt die, it may or may not be executed.
            let in_flight = counter.deferred().fetch_add(0);
            if attempt < 3 && call == calls * u64::from(attempt) / 4 {
                std::process::abort();
            }
            in_flight.wait()?;
        }
    }
    Ok((
        sums,
        randoms,
        times,
        u64::try_from(own.load()?).unwrap_or(0),
    ))
}

fn e01_a_thread_that_dies_again_and_again_runs_exactly_once() -> Outcome {
    const CALLS: u64 = 100;
    let counter = Shared::new(AtomicI64::new(0))?;
    let (words, list) = (Shared::new(Map::new())?, Shared::new(List::new())?);
    let task = add_and_die(CALLS, counter.clone(), words.clone(), list.clone());
    let thread = thread::Builder::new().exactly_once().spawn(task)?;
    let (sums, randoms, times, own) = thread.join()??;
    assert_eq!(counter.load()?, CALLS as i64);
    assert_eq!(sums, (0..CALLS as i64).collect::<Vec<_>>());
    assert_eq!(words.get(&"calls".to_owned())?, Some(CALLS));
    assert_eq!(list.to_vec()?, randoms);
    assert_eq!(own, 2 * CALLS);
    // The times of the first attempts are those of the last: they rise over all three.
    assert!(times.is_sorted() && times.len() == 10, "{times:?}");
    Ok(())
}

/// Takes the lock, dies, and unlocks in its second attempt; then meets the others.
#[cloud]
fn lock_and_die(
    mutex: Shared<Mutex<Vec<u32>>>,
    barrier: Shared<Barrier>,
    locked: Shared<Latch>,
) -> crucial::Result<()> {
    let mut guard = mutex.lock()?;
    locked.count_down()?;
    let attempt = thread::current().map_or(0, |thread| thread.attempt());
    if attempt == 1 {
        std::process::abort();
    }
    guard.push(1);
    guard.unlock()?;
    let waiting = barrier.deferred().wait();
    locked.count_down()?;
    if attempt == 2 {
        std::process::abort();
    }
    waiting.wait()?;
    Ok(())
}

fn e01_an_exactly_once_thread_keeps_its_places_and_locks() -> Outcome {
    let mutex = Shared::new(Mutex::new(Vec::new()))?;
    let (barrier, locked) = (Shared::new(Barrier::new(2))?, Shared::new(Latch::new(2))?);
    let task = lock_and_die(mutex.clone(), barrier.clone(), locked.clone());
    let thread = thread::Builder::new().exactly_once().spawn(task)?;
    // When the thread has locked, once for all attempts, no other can until it unlocks.
    while locked.get()? == 2 {}
    let mut guard = mutex.lock()?;
    assert_eq!(*guard, [1]);
    guard.push(2);
    guard.unlock()?;
    locked.wait()?;
    assert_eq!(barrier.waiting()?, 1);
    barrier.wait()?;
    thread.join()??;
    assert_eq!(mutex.get()?, [1, 2]);
    Ok(())
}

/// Panics with the lock in its hands, once for good and once to catch it.
#[cloud]
fn lock_and_panic(
    mutex: Shared<Mutex<Vec<u32>>>,
    permits: Shared<Semaphore>,
) -> crucial::Result<u64> {
    let attempt = thread::current().map_or(0, |thread| thread.attempt());
    let mut guard = mutex.lock()?;
    guard.push(1);
    assert_ne!(attempt, 1, "the first attempt panics with a guard");
    guard.unlock()?;
    let caught = std::panic::catch_unwind(|| {
        let _permit = permits.permit().expect("a permit");
        panic!("caught");
    });
    assert!(caught.is_err());
    if attempt == 2 {
        std::process::abort();
    }
    permits.available_permits()
}

fn e01_an_exactly_once_thread_that_panics_has_its_guards_still() -> Outcome {
    let mutex = Shared::new(Mutex::new(Vec::new()))?;
    let permits = Shared::new(Semaphore::new(1))?;
    let task = lock_and_panic(mutex.clone(), permits.clone());
    let thread = thread::Builder::new().exactly_once().spawn(task)?;
    assert_eq!(thread.join()??, 1, "the permit came back");
    assert_eq!(*mutex.lock()?, [1]);
    // One that panics for good holds nothing when it is joined.
    let task = lock_and_panic(mutex.clone(), permits.clone());
    let thread = thread::Builder::new()
        .exactly_once()
        .retries(0)
        .spawn(task)?;
    assert!(matches!(thread.join(), Err(Error::Panicked { .. })));
    assert_eq!(*mutex.lock()?, [1]);
    Ok(())
}

#[cloud]
fn start_another(counter: Shared<AtomicI64>) -> Option<String> {
    let started = thread::Builder::new().spawn(add_some(1, None, counter));
    started.err().map(|error| error.to_string())
}

fn e01_an_exactly_once_thread_starts_no_threads() -> Outcome {
    let counter = Shared::new(AtomicI64::new(0))?;
    let task = start_another(counter.clone());
    let refused = thread::Builder::new().exactly_once().spawn(task)?.join()?;
    let refused = refused.expect("it is refused");
    assert!(
        refused.contains("start them outside the thread"),
        "{refused}"
    );
    assert_eq!(counter.load()?, 0);
    Ok(())
}

#[cloud]
fn wander(counter: Shared<AtomicI64>, list: Shared<List<u32>>) -> crucial::Result<()> {
    let attempt = thread::current().map_or(0, |thread| thread.attempt());
    counter.fetch_add(1)?;
    list.push(attempt)?;
    std::process::abort();
}

fn e01_a_thread_that_leaves_its_record_is_told_where() -> Outcome {
    let counter = Shared::new(AtomicI64::new(0))?;
    let list = Shared::new(List::new())?;
    let thread = thread::Builder::new()
        .name("wanderer")
        .exactly_once()
        .spawn(wander(counter.clone(), list.clone()))?;
    let error = thread.join().unwrap_err();
    assert!(matches!(error, Error::Diverged { position: 2, .. }));
    let error = error.to_string();
    assert!(
        error.contains("\"wanderer\" does not follow its record: call 2 was crucial::List::push"),
        "{error}"
    );
    assert_eq!((counter.load()?, list.to_vec()?), (1, vec![1]));
    Ok(())
}

#[cloud]
fn add_some(calls: u64, dies_at: Option<u64>, counter: Shared<AtomicI64>) -> crucial::Result<()> {
    let is_first = thread::current().is_some_and(|thread| thread.attempt() == 1);
    for call in 0..calls {
        if is_first && dies_at == Some(call) {
            std::process::abort();
        }
        counter.fetch_add(1)?;
    }
    Ok(())
}

fn e01_sixty_four_threads_of_which_half_die() -> Outcome {
    const CALLS: u64 = 300;
    let counter = Shared::new(AtomicI64::new(0))?;
    let tasks: Vec<_> = (0..64u64)
        .map(|index| {
            let dies_at = (index % 2 == 0).then_some(index * CALLS / 64);
            add_some(CALLS, dies_at, counter.clone())
        })
        .collect();
    let mut tasks = tasks.into_iter();
    let outcomes = thread::Builder::new()
        .exactly_once()
        .map(0..64, |_| tasks.next().expect("there are 64"))?;
    outcomes.into_iter().collect::<crucial::Result<Vec<()>>>()?;
    assert_eq!(counter.load()?, 64 * CALLS as i64);
    Ok(())
}

/// Listing 2's loop: all add to a sum in each iteration, and one counts it.
#[cloud]
fn iterate(
    me: i64,
    iterations: i64,
    dies_at: Option<i64>,
    sum: Shared<AtomicI64>,
    iteration: Shared<AtomicI64>,
    barrier: Shared<Barrier>,
) -> crucial::Result<i64> {
    let is_first = thread::current().is_some_and(|thread| thread.attempt() == 1);
    let mut done = 0;
    loop {
        let present = iteration.load()?;
        if present == iterations {
            return Ok(done);
        }
        if is_first && dies_at == Some(present) {
            std::process::abort();
        }
        sum.fetch_add(present * 10 + me)?;
        done += 1;
        if barrier.wait()?.is_leader() {
            iteration.fetch_add(1)?;
        }
        barrier.wait()?;
    }
}

fn i06_a_killed_worker_resumes_at_the_shared_iteration_count() -> Outcome {
    const ITERATIONS: i64 = 20;
    let (sum, iteration) = (
        Shared::new(AtomicI64::new(0))?,
        Shared::new(AtomicI64::new(0))?,
    );
    let barrier = Shared::new(Barrier::new(3))?;
    let threads = thread::Builder::new().retries(1);
    let done = threads.map(0..3i64, |me| {
        let dies_at = (me > 0).then_some(5 * me);
        let shared = (sum.clone(), iteration.clone(), barrier.clone());
        iterate(me, ITERATIONS, dies_at, shared.0, shared.1, shared.2)
    })?;
    let done: Vec<i64> = done.into_iter().collect::<crucial::Result<_>>()?;
    // Those that were killed did only the rest in their second attempt.
    assert_eq!(done, [ITERATIONS, ITERATIONS - 5, ITERATIONS - 10]);
    let expected: i64 = (0..ITERATIONS).map(|present| 3 * 10 * present + 3).sum();
    assert_eq!(sum.load()?, expected);
    Ok(())
}
