//! J: the drop-in module. What these rows use of `std` is Crucial's.

use crucial::std;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, Barrier, Condvar, LazyLock, Mutex, Once, OnceLock, RwLock, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use crucial::cloud;
use libtest_mimic::Trial;
use serde::{Deserialize, Serialize};

use crate::program::Program;
use crate::{Outcome, trials};

pub fn trials() -> Vec<Trial> {
    trials![
        j03_a_channel_ends_with_its_threads,
        j03_a_channel_ends_when_its_receiver_is_gone,
        j03_channels_travel_through_channels,
        j03_rounds_of_new_primitives_run_in_constant_memory,
        j03_an_arc_counts_the_threads_that_have_it,
        j03_what_a_thread_passes_on_outlives_its_maker,
        j04_a_panic_poisons_and_a_retry_does_not,
        j04_the_lock_of_a_killed_thread_is_poisoned,
        j04_what_is_lent_is_unchanged_after_a_panic,
        j04_a_failed_call_is_an_error_at_join,
        j05_a_closure_only_builds_the_task,
        j07_a_held_lock_is_shared_with_its_guard,
        j07_who_waits_here_goes_on_at_the_object,
        j07_statics_are_one_object_of_the_run,
        j07_once_cells_are_set_once,
        j07_readers_are_there_together,
        j07_threads_are_parked_and_unparked,
    ]
}

#[cloud]
fn send_all(from: u32, sender: Sender<u32>) {
    for n in from..from + 10 {
        sender.send(n).unwrap();
    }
}

#[cloud]
fn send_one_and_die(sender: Sender<u32>) {
    sender.send(1000).unwrap();
    std::process::abort();
}

/// Drops its end early, and then waits for what the receiver says.
#[cloud]
fn send_and_wait(sender: Sender<u32>, answer: Receiver<u32>) -> u32 {
    sender.send(7).unwrap();
    drop(sender);
    answer.recv().unwrap()
}

fn j03_a_channel_ends_with_its_threads() -> Outcome {
    let (sender, receiver) = mpsc::channel();
    let mut threads = Vec::new();
    for from in [0, 10, 20] {
        let sender = sender.clone();
        threads.push(thread::spawn(move || send_all(from, sender)));
    }
    drop(sender);
    let mut items: Vec<u32> = receiver.iter().collect();
    items.sort_unstable();
    assert!(items.into_iter().eq(0..30));
    for thread in threads {
        thread.join().unwrap();
    }

    let (sender, receiver) = mpsc::channel();
    let dies = thread::spawn(move || send_one_and_die(sender));
    assert!(receiver.into_iter().eq([1000]));
    assert!(dies.join().is_err());

    let (sender, receiver) = mpsc::channel();
    let (say, answer) = mpsc::channel();
    let waits = thread::spawn(move || send_and_wait(sender, answer));
    say.send(receiver.iter().sum()).unwrap();
    assert_eq!(waits.join().unwrap(), 7);
    Ok(())
}

#[cloud]
fn receive(count: usize, receiver: Receiver<u32>) -> u32 {
    receiver.iter().take(count).sum()
}

#[cloud]
fn receive_in_two_attempts(receiver: Receiver<u32>, attempts: Arc<AtomicUsize>) -> u32 {
    let first = receiver.recv().unwrap();
    assert!(attempts.fetch_add(1, SeqCst) > 0, "after the first item");
    first + receiver.iter().take(2).sum::<u32>()
}

#[cloud]
fn receive_and_die(receiver: Receiver<u32>) {
    receiver.recv().unwrap();
    std::process::abort();
}

fn j03_a_channel_ends_when_its_receiver_is_gone() -> Outcome {
    for bound in [0, 1, 5] {
        let (sender, receiver) = mpsc::sync_channel(bound);
        let thread = thread::spawn(move || receive(3, receiver));
        let sent = (1..).take_while(|n| sender.send(*n).is_ok()).count();
        assert!((3..=3 + bound).contains(&sent), "{sent} of {bound}");
        assert_eq!(thread.join().unwrap(), 6);

        let (sender, receiver) = mpsc::sync_channel(bound);
        let thread = thread::spawn(move || receive_and_die(receiver));
        let sent = (1..).take_while(|n| sender.send(*n).is_ok()).count();
        assert!((1..=1 + bound).contains(&sent), "{sent} of {bound}");
        assert!(thread.join().is_err());
    }
    // The end of an attempt that panics is the next one's.
    let (sender, receiver) = mpsc::channel();
    let attempts = Arc::new(AtomicUsize::new(0));
    let thread = {
        let attempts = attempts.clone();
        let builder = thread::Builder::new().retries(1);
        builder.spawn(move || receive_in_two_attempts(receiver, attempts))
    };
    (1..=4).for_each(|n| sender.send(n).unwrap());
    assert_eq!(thread.unwrap().join().unwrap(), 9);
    // A task that is dropped gives its ends back.
    let (sender, receiver) = mpsc::channel::<u32>();
    drop(send_all(0, sender));
    assert_eq!(
        receiver.recv_timeout(Duration::from_secs(60)),
        Err(RecvTimeoutError::Disconnected)
    );
    Ok(())
}

/// A question, and where its answer goes.
#[derive(Serialize, Deserialize)]
struct Question {
    n: u32,
    answer: Sender<u32>,
}

#[cloud]
fn answer(questions: Receiver<Question>) {
    for Question { n, answer } in questions {
        answer.send(2 * n).unwrap();
    }
}

fn j03_channels_travel_through_channels() -> Outcome {
    let (ask, questions) = mpsc::channel();
    let thread = thread::spawn(move || answer(questions));
    for n in 0..10 {
        let (answer, answers) = mpsc::channel();
        ask.send(Question { n, answer }).unwrap();
        assert!(answers.into_iter().eq([2 * n]));
    }
    drop(ask);
    thread.join().unwrap();
    Ok(())
}

#[cloud]
fn have(_: Sender<u32>, _: Arc<Barrier>, _: Arc<Mutex<Vec<u8>>>) {}

/// This process's memory, in KB: with the embedded server, all of it.
fn memory_kb() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    let kb = line.and_then(|line| line.split_ascii_whitespace().nth(1));
    kb.and_then(|kb| kb.parse().ok()).unwrap()
}

/// Programs of these tests.
pub fn program(name: &str) -> Option<crucial::Result<()>> {
    (name == "drop-in-rounds").then(rounds)
}

/// Makes new primitives in each round, and prints by how much the memory has grown.
fn rounds() -> crucial::Result<()> {
    let round = |travels: bool| {
        let (sender, receiver) = mpsc::channel();
        let barrier = Arc::new(Barrier::new(1));
        let mutex = Arc::new(Mutex::new(vec![1; 1000]));
        if travels {
            // As a thread that ends, without its time.
            drop(have(sender, barrier.clone(), mutex.clone()));
            assert!(receiver.recv().is_err());
        }
        barrier.wait();
        mutex.lock().unwrap().push(1);
    };
    let rounds = std::env::var("CRUCIAL_DROP_IN_ROUNDS");
    let rounds: usize = rounds.map_or(2_000, |rounds| rounds.parse().unwrap());
    (0..1_000).for_each(|_| round(true));
    let before = memory_kb();
    (0..rounds).for_each(|_| round(true));
    (0..100_000).for_each(|_| round(false));
    println!("{}", memory_kb().saturating_sub(before));
    Ok(())
}

fn j03_rounds_of_new_primitives_run_in_constant_memory() -> Outcome {
    let mut program = Program::start("drop-in-rounds", None)?;
    let grown: usize = program.line()?.parse()?;
    // Each round's objects have more than 1 KB.
    assert!(grown < 1_500, "{grown} KB more");
    let threads = (0..20).map(|_| {
        let (sender, receiver) = mpsc::channel();
        let mutex = Arc::new(Mutex::new(vec![1; 1000]));
        let thread = {
            let mutex = mutex.clone();
            thread::spawn(move || have(sender, Arc::new(Barrier::new(1)), mutex))
        };
        (thread, receiver, mutex)
    });
    for (thread, receiver, mutex) in threads.collect::<Vec<_>>() {
        thread.join().unwrap();
        assert!(receiver.recv().is_err());
        assert_eq!(
            Arc::try_unwrap(mutex).unwrap().into_inner().unwrap().len(),
            1000
        );
    }
    Ok(())
}

#[cloud]
fn add(counter: Arc<Mutex<Vec<u32>>>, n: u32, go_on: Arc<Barrier>) {
    go_on.wait();
    counter.lock().unwrap().push(n);
}

fn j03_an_arc_counts_the_threads_that_have_it() -> Outcome {
    let mut items = Arc::new(Mutex::new(Vec::new()));
    let go_on = Arc::new(Barrier::new(4));
    let threads: Vec<_> = (0..3)
        .map(|n| {
            let (items, go_on) = (items.clone(), go_on.clone());
            thread::spawn(move || add(items, n, go_on))
        })
        .collect();
    assert_eq!(Arc::strong_count(&items), 4);
    assert!(Arc::get_mut(&mut items).is_none());
    go_on.wait();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(Arc::strong_count(&items), 1);
    // The value comes home.
    Arc::get_mut(&mut items)
        .unwrap()
        .get_mut()
        .unwrap()
        .sort_unstable();
    assert_eq!(*items.lock().unwrap(), [0, 1, 2]);
    let weak = Arc::downgrade(&items);
    assert_eq!(
        Arc::into_inner(items).unwrap().into_inner().unwrap(),
        [0, 1, 2]
    );
    assert!(weak.upgrade().is_none());
    Ok(())
}

#[cloud]
fn pass_on(value: Arc<AtomicUsize>, to: Sender<Arc<AtomicUsize>>) {
    to.send(value).unwrap();
}

#[cloud]
fn extend(list: Arc<Mutex<Vec<Arc<AtomicUsize>>>>) -> usize {
    let mut list = list.lock().unwrap();
    list[0].fetch_add(1, SeqCst);
    list.push(Arc::new(AtomicUsize::new(2)));
    list.len() - 1
}

#[cloud]
fn make() -> Arc<AtomicUsize> {
    Arc::new(AtomicUsize::new(5))
}

fn j03_what_a_thread_passes_on_outlives_its_maker() -> Outcome {
    let (sender, receiver) = mpsc::channel();
    let value = Arc::new(AtomicUsize::new(3));
    thread::spawn(move || pass_on(value, sender))
        .join()
        .unwrap();
    // The thread has ended, and its maker has no handle any more.
    let value = receiver.recv().unwrap();
    assert_eq!(value.fetch_add(1, SeqCst), 3);
    assert_eq!(value.load(SeqCst), 4);
    // What is stored in an object lives as long as the object.
    let list = Arc::new(Mutex::new(vec![Arc::new(AtomicUsize::new(1))]));
    for n in [1, 2] {
        let list = list.clone();
        assert_eq!(thread::spawn(move || extend(list)).join().unwrap(), n);
    }
    let values: Vec<usize> = (list.lock().unwrap().iter())
        .map(|value| value.fetch_add(10, SeqCst))
        .collect();
    assert_eq!(values, [3, 2, 2]);
    let made = thread::spawn(make).join().unwrap();
    assert_eq!(made.swap(6, SeqCst), 5);
    assert_eq!(made.load(SeqCst), 6);
    Ok(())
}

#[cloud]
fn change_and_panic(value: Arc<Mutex<u32>>, panics: u32, attempts: Arc<AtomicUsize>) {
    let mut value = value.lock().unwrap();
    *value += 1;
    if attempts.fetch_add(1, SeqCst) < panics as usize {
        panic!("with the lock");
    }
}

fn j04_a_panic_poisons_and_a_retry_does_not() -> Outcome {
    let value = Arc::new(Mutex::new(0));
    let run = |retries, panics| {
        let (value, attempts) = (value.clone(), Arc::new(AtomicUsize::new(0)));
        let thread = thread::Builder::new().retries(retries);
        let thread = thread.spawn(move || change_and_panic(value, panics, attempts));
        thread.unwrap().join()
    };
    run(2, 2).unwrap();
    assert!(!value.is_poisoned());
    assert_eq!(*value.lock().unwrap(), 1);

    let error = run(2, 3).unwrap_err();
    assert_eq!(error.downcast_ref::<String>().unwrap(), "with the lock");
    assert!(value.is_poisoned());
    // As it was when the last one panicked.
    assert_eq!(*value.lock().unwrap_err().into_inner(), 2);
    assert!(matches!(value.try_lock(), Err(TryLockError::Poisoned(_))));
    // A poisoned lock is one that makes the next thread panic, in its `unwrap`.
    assert!(run(0, 0).is_err());
    value.clear_poison();
    run(0, 0).unwrap();
    assert_eq!(Arc::into_inner(value).unwrap().into_inner().unwrap(), 3);
    Ok(())
}

#[cloud]
fn change_and_die(value: Arc<Mutex<u32>>, deaths: usize, attempts: Arc<AtomicUsize>) {
    let mut value = value.lock().unwrap();
    *value += 1;
    if attempts.fetch_add(1, SeqCst) < deaths {
        std::process::abort();
    }
}

fn j04_the_lock_of_a_killed_thread_is_poisoned() -> Outcome {
    let value = Arc::new(Mutex::new(10));
    let run = |retries, deaths| {
        let (value, attempts) = (value.clone(), Arc::new(AtomicUsize::new(0)));
        let thread = thread::Builder::new().retries(retries);
        let thread = thread.spawn(move || change_and_die(value, deaths, attempts));
        thread.unwrap().join()
    };
    run(1, 1).unwrap();
    assert_eq!(*value.lock().unwrap(), 11);
    assert!(run(1, 2).is_err());
    assert_eq!(*value.lock().unwrap_err().into_inner(), 11);
    Ok(())
}

#[cloud]
fn fill(part: &mut [u32], sum: &mut u64, with: u32, panics: bool) -> usize {
    part.fill(with);
    *sum += u64::from(with);
    assert!(!panics, "half done");
    part.len()
}

fn j04_what_is_lent_is_unchanged_after_a_panic() -> Outcome {
    let (mut items, mut sums) = (vec![0; 10], [100, 200, 300]);
    let lengths: Vec<usize> = thread::scope(|scope| {
        let parts = items.chunks_mut(4).zip(&mut sums).zip(1..);
        let threads = parts.map(|((part, sum), n)| scope.spawn(move || fill(part, sum, n, false)));
        let threads: Vec<_> = threads.collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(lengths, [4, 4, 2]);
    assert_eq!(items, [1, 1, 1, 1, 2, 2, 2, 2, 3, 3]);
    assert_eq!(sums, [101, 202, 303]);

    thread::scope(|scope| {
        let [first, second, _] = &mut sums;
        let (left, right) = items.split_at_mut(5);
        let fails = scope.spawn(|| fill(left, first, 9, true));
        scope.spawn(|| fill(right, second, 9, false));
        let error = fails.join().unwrap_err();
        assert_eq!(error.downcast_ref::<String>().unwrap(), "half done");
    });
    assert_eq!(items, [1, 1, 1, 1, 2, 9, 9, 9, 9, 9]);
    assert_eq!(sums, [101, 211, 303]);

    // One that nobody joined makes the scope panic, as in std.
    let [first, ..] = &mut sums;
    let scope = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        thread::scope(|scope| {
            scope.spawn(|| fill(&mut items, first, 9, true));
        })
    }));
    assert!(scope.is_err());
    assert_eq!(fill(&mut items, &mut sums[0], 7, false).run_here()?, 10);
    assert_eq!((items, sums[0]), (vec![7; 10], 108));
    Ok(())
}

#[cloud]
fn count_in(counter: Arc<AtomicUsize>, attempts: Arc<AtomicUsize>) -> usize {
    let n = counter.fetch_add(1, SeqCst);
    if attempts.fetch_add(1, SeqCst) == 0 {
        std::process::abort();
    }
    n
}

/// A value that cannot always be sent.
#[derive(Debug, Serialize, Deserialize)]
struct OnlyEven(#[serde(serialize_with = "even")] u32);

fn even<S: serde::Serializer>(n: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    match n % 2 {
        0 => serializer.serialize_u32(*n),
        _ => Err(serde::ser::Error::custom("it is odd")),
    }
}

#[cloud]
fn set(value: Arc<Mutex<OnlyEven>>, to: u32) {
    value.lock().unwrap().0 = to;
}

fn j04_a_failed_call_is_an_error_at_join() -> Outcome {
    let value = Arc::new(Mutex::new(OnlyEven(0)));
    let run = |to| {
        let value = value.clone();
        thread::spawn(move || set(value, to)).join()
    };
    run(2).unwrap();
    let error = run(3).unwrap_err();
    let error = error.downcast_ref::<String>().unwrap();
    assert!(error.contains("it is odd"), "{error}");
    // The lock was given back, without the value.
    assert_eq!(value.lock().unwrap_err().into_inner().0, 2);
    value.clear_poison();
    run(4).unwrap();

    // A retry makes its calls again, an exactly-once thread does not.
    for (exactly_once, total) in [(false, 2), (true, 1)] {
        let (counter, attempts) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let thread = thread::Builder::new().retries(1);
        let thread = match exactly_once {
            true => thread.exactly_once(),
            false => thread,
        };
        let result = {
            let (counter, attempts) = (counter.clone(), attempts.clone());
            thread
                .spawn(move || count_in(counter, attempts))
                .unwrap()
                .join()
        };
        match exactly_once {
            // An exactly-once thread does the same again, also the dying: its calls are recorded.
            true => assert!(result.is_err()),
            false => assert_eq!(result.unwrap(), 1),
        }
        assert_eq!(counter.load(SeqCst), total);
    }
    Ok(())
}

fn j05_a_closure_only_builds_the_task() -> Outcome {
    let (sender, receiver) = mpsc::channel::<u32>();
    let (other, barrier) = (sender.clone(), Barrier::new(2));
    let blocked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        thread::spawn(|| {
            receiver.recv().unwrap();
            send_all(0, sender)
        })
    }));
    let message = blocked.unwrap_err();
    let message = message.downcast_ref::<String>().unwrap();
    assert!(message.contains("the closure of a spawn"), "{message}");
    let blocked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        thread::spawn(|| {
            barrier.wait();
            send_all(0, other)
        })
    }));
    assert!(blocked.is_err());
    // The native objects, too.
    let native = crucial::Shared::new(crucial::sync::Barrier::new(2))?;
    let refused = std::cell::Cell::new(None);
    let thread = crucial::thread::spawn(|| {
        refused.set(native.wait().err());
        make()
    });
    assert!(
        refused
            .take()
            .is_some_and(|error| error.to_string().contains("closure of a spawn"))
    );
    thread.join()?;
    Ok(())
}

#[cloud]
fn push(items: Arc<Mutex<Vec<u32>>>, n: u32) -> usize {
    let mut items = items.lock().unwrap();
    items.push(n);
    items.len()
}

fn j07_a_held_lock_is_shared_with_its_guard() -> Outcome {
    let items = Arc::new(Mutex::new(vec![1]));
    let mut guard = items.lock().unwrap();
    let threads = [2, 3].map(|n| {
        let items = items.clone();
        thread::spawn(move || push(items, n))
    });
    // A thread of this process that waits for the lock goes on waiting at the object.
    let here = {
        let items = items.clone();
        ::std::thread::spawn(move || items.lock().unwrap().push(4))
    };
    guard.push(10);
    ::std::thread::sleep(Duration::from_millis(100));
    assert!(threads.iter().all(|thread| !thread.is_finished()));
    drop(guard);
    here.join().unwrap();
    let lengths = threads.map(|thread| thread.join().unwrap());
    assert!(
        lengths.iter().all(|length| (3..=5).contains(length)),
        "{lengths:?}"
    );
    let items = Arc::into_inner(items).unwrap().into_inner().unwrap();
    assert_eq!(items[..2], [1, 10]);
    assert_eq!(items.len(), 5);
    Ok(())
}

/// What two sides meet with.
#[derive(Serialize, Deserialize)]
struct Meeting {
    barrier: Barrier,
    state: Mutex<u32>,
    changed: Condvar,
}

#[cloud]
fn meet(meeting: Arc<Meeting>, out: SyncSender<String>) {
    out.send("hello".to_owned()).unwrap();
    meeting.barrier.wait();
    *meeting.state.lock().unwrap() = 1;
    meeting.changed.notify_all();
    let state = meeting.state.lock().unwrap();
    let state = meeting
        .changed
        .wait_while(state, |state| *state < 2)
        .unwrap();
    assert_eq!(*state, 2);
}

fn j07_who_waits_here_goes_on_at_the_object() -> Outcome {
    let meeting = Arc::new(Meeting {
        barrier: Barrier::new(3),
        state: Mutex::new(0),
        changed: Condvar::new(),
    });
    let (sender, receiver) = mpsc::sync_channel(0);
    let spawn = |act: fn(&Meeting)| {
        let meeting = meeting.clone();
        ::std::thread::spawn(move || act(&meeting))
    };
    let at_barrier = spawn(|meeting| {
        meeting.barrier.wait();
    });
    let at_condition = spawn(|meeting| {
        let state = meeting.state.lock().unwrap();
        let mut state = meeting
            .changed
            .wait_while(state, |state| *state == 0)
            .unwrap();
        assert_eq!(*state, 1);
        *state = 2;
        drop(state);
        meeting.changed.notify_one();
    });
    let at_channel = ::std::thread::spawn(move || receiver.recv().unwrap());
    // So that they wait.
    ::std::thread::sleep(Duration::from_millis(100));
    let thread = {
        let meeting = meeting.clone();
        thread::spawn(move || meet(meeting, sender))
    };
    meeting.barrier.wait();
    at_barrier.join().unwrap();
    at_condition.join().unwrap();
    assert_eq!(at_channel.join().unwrap(), "hello");
    thread.join().unwrap();
    let begin = Instant::now();
    let state = meeting.state.lock().unwrap();
    let (state, result) = meeting
        .changed
        .wait_timeout(state, Duration::from_millis(50))
        .unwrap();
    assert!(result.timed_out() && begin.elapsed() >= Duration::from_millis(50));
    assert_eq!(*state, 2);
    Ok(())
}

static HITS: AtomicUsize = AtomicUsize::new(40);
static FLAGS: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];
static LOCK: Mutex<u32> = Mutex::new(0);
static SQUARES: LazyLock<Vec<usize>> = LazyLock::new(|| (0..10).map(|n| n * n).collect());

#[cloud]
fn hit() -> usize {
    FLAGS[1].store(true, SeqCst);
    HITS.fetch_add(SQUARES[1], SeqCst)
}

#[cloud]
fn hit_what_is_passed(hits: &AtomicUsize) -> usize {
    HITS.fetch_add(1, SeqCst);
    hits.fetch_add(1, SeqCst)
}

#[cloud]
fn use_static_lock() -> u32 {
    *LOCK.lock().unwrap()
}

fn j07_statics_are_one_object_of_the_run() -> Outcome {
    let before = HITS.load(SeqCst);
    let threads: Vec<_> = (0..4).map(|_| thread::spawn(hit)).collect();
    let mut seen: Vec<usize> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(before..before + 4));
    assert_eq!(HITS.load(SeqCst), before + 4);
    assert!(!FLAGS[0].load(SeqCst) && FLAGS[1].load(SeqCst));
    let seen = thread::scope(|scope| scope.spawn(|| hit_what_is_passed(&HITS)).join());
    assert_eq!(seen.unwrap(), before + 5);
    assert_eq!(HITS.load(SeqCst), before + 6);
    // A lock cannot be, and says so.
    *LOCK.lock().unwrap() = 5;
    let error = thread::spawn(use_static_lock).join().unwrap_err();
    let error = error.downcast_ref::<String>().unwrap();
    assert!(error.contains("this Mutex is a static"), "{error}");
    Ok(())
}

#[cloud]
fn choose(cell: Arc<OnceLock<u32>>, once: Arc<Once>, computed: Arc<AtomicUsize>, n: u32) -> u32 {
    once.call_once(|| {
        computed.fetch_add(100, SeqCst);
    });
    *cell.get_or_init(|| {
        computed.fetch_add(1, SeqCst);
        n
    })
}

fn j07_once_cells_are_set_once() -> Outcome {
    let (cell, once) = (Arc::new(OnceLock::new()), Arc::new(Once::new()));
    let computed = Arc::new(AtomicUsize::new(0));
    assert_eq!(cell.get(), None);
    let threads: Vec<_> = (1..5)
        .map(|n| {
            let (cell, once, computed) = (cell.clone(), once.clone(), computed.clone());
            thread::spawn(move || choose(cell, once, computed, n))
        })
        .collect();
    let chosen: Vec<u32> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    assert!(chosen.iter().all(|n| *n == chosen[0]), "{chosen:?}");
    assert_eq!(computed.load(SeqCst), 101);
    assert!(once.is_completed());
    assert_eq!(cell.set(9), Err(9));
    assert_eq!(cell.get(), Some(&chosen[0]));
    assert_eq!(Arc::into_inner(cell).unwrap().take(), Some(chosen[0]));
    Ok(())
}

#[cloud]
fn read_together(value: Arc<RwLock<Vec<u32>>>, both: Arc<Barrier>) -> u32 {
    let value = value.read().unwrap();
    both.wait();
    value.iter().sum()
}

#[cloud]
fn write(value: Arc<RwLock<Vec<u32>>>, n: u32) {
    value.write().unwrap().push(n);
}

fn j07_readers_are_there_together() -> Outcome {
    let (value, both) = (Arc::new(RwLock::new(vec![1, 2])), Arc::new(Barrier::new(3)));
    let reading = value.read().unwrap();
    let readers = [(); 2].map(|()| {
        let (value, both) = (value.clone(), both.clone());
        thread::spawn(move || read_together(value, both))
    });
    both.wait();
    let writer = {
        let value = value.clone();
        thread::spawn(move || write(value, 3))
    };
    assert!(
        readers
            .into_iter()
            .all(|reader| reader.join().unwrap() == 3)
    );
    assert_eq!(*reading, [1, 2]);
    assert!(!writer.is_finished());
    drop(reading);
    writer.join().unwrap();
    assert_eq!(*value.read().unwrap(), [1, 2, 3]);
    Ok(())
}

#[cloud]
fn park_until(stop: Arc<AtomicBool>, parent: thread::Thread) -> Option<String> {
    parent.unpark();
    while !stop.load(SeqCst) {
        thread::park();
    }
    thread::current().name().map(str::to_owned)
}

fn j07_threads_are_parked_and_unparked() -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    let thread = {
        let (stop, parent) = (stop.clone(), thread::current());
        let builder = thread::Builder::new().name("parked".to_owned());
        builder.spawn(move || park_until(stop, parent)).unwrap()
    };
    thread::park();
    stop.store(true, SeqCst);
    thread.thread().unpark();
    assert_eq!(thread.thread().name(), Some("parked"));
    assert_eq!(thread.join().unwrap().as_deref(), Some("parked"));
    let begin = Instant::now();
    thread::park_timeout(Duration::from_millis(20));
    assert!(begin.elapsed() < Duration::from_secs(10));
    Ok(())
}
