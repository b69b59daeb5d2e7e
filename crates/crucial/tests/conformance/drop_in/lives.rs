//! How long what is shared lives.

use crucial::std;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use crucial::cloud;

use crate::Outcome;
use crate::program::Program;

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

pub fn j03_rounds_of_new_primitives_run_in_constant_memory() -> Outcome {
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

pub fn j03_an_arc_counts_the_threads_that_have_it() -> Outcome {
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
pub fn make() -> Arc<AtomicUsize> {
    Arc::new(AtomicUsize::new(5))
}

pub fn j03_what_a_thread_passes_on_outlives_its_maker() -> Outcome {
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
