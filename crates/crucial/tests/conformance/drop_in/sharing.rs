//! Primitives that become shared while they are used.

use crucial::std;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Barrier, Condvar, LazyLock, Mutex, Once, OnceLock, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use crucial::cloud;
use serde::{Deserialize, Serialize};

use crate::Outcome;

#[cloud]
fn push(items: Arc<Mutex<Vec<u32>>>, n: u32, all: Arc<Barrier>) -> usize {
    all.wait();
    let mut items = items.lock().unwrap();
    items.push(n);
    items.len()
}

pub fn j07_a_held_lock_is_shared_with_its_guard() -> Outcome {
    let items = Arc::new(Mutex::new(vec![1]));
    let all = Arc::new(Barrier::new(4));
    let mut guard = items.lock().unwrap();
    let threads = [2, 3].map(|n| {
        let (items, all) = (items.clone(), all.clone());
        thread::spawn(move || push(items, n, all))
    });
    // A thread of this process that waits for the lock goes on waiting at the object.
    let here = {
        let (items, all) = (items.clone(), all.clone());
        ::std::thread::spawn(move || {
            all.wait();
            items.lock().unwrap().push(4);
        })
    };
    all.wait();
    guard.push(10);
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

pub fn j07_who_waits_here_goes_on_at_the_object() -> Outcome {
    let meeting = Arc::new(Meeting {
        barrier: Barrier::new(3),
        state: Mutex::new(0),
        changed: Condvar::new(),
    });
    let (sender, receiver) = mpsc::sync_channel(0);
    let spawn = |act: Box<dyn FnOnce(&Meeting) + Send>| {
        let meeting = meeting.clone();
        ::std::thread::spawn(move || act(&meeting))
    };
    let at_barrier = spawn(Box::new(|meeting| {
        meeting.barrier.wait();
    }));
    let (say, has_the_lock) = ::std::sync::mpsc::channel();
    let at_condition = spawn(Box::new(move |meeting| {
        let state = meeting.state.lock().unwrap();
        say.send(()).unwrap();
        let mut state = meeting
            .changed
            .wait_while(state, |state| *state == 0)
            .unwrap();
        assert_eq!(*state, 1);
        *state = 2;
        drop(state);
        meeting.changed.notify_one();
    }));
    let at_channel = ::std::thread::spawn(move || receiver.recv().unwrap());
    // Whoever gets the lock now knows that the other waits for the condition. Of those at the barrier and the channel nothing
    // tells; `crates/std/tests/switch` tries all orders.
    has_the_lock.recv().unwrap();
    drop(meeting.state.lock().unwrap());
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

pub fn j07_statics_are_one_object_of_the_run() -> Outcome {
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

pub fn j07_once_cells_are_set_once() -> Outcome {
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

pub fn j07_readers_are_there_together() -> Outcome {
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

pub fn j07_threads_are_parked_and_unparked() -> Outcome {
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
