//! What a failed thread leaves behind.

use crucial::std;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{self};
use std::sync::{Arc, Barrier, Mutex, TryLockError};
use std::thread;

use crucial::cloud;
use serde::{Deserialize, Serialize};

use super::channels::send_all;
use super::lives::make;
use crate::Outcome;

#[cloud]
fn change_and_panic(value: Arc<Mutex<u32>>, panics: u32, attempts: Arc<AtomicUsize>) {
    let mut value = value.lock().unwrap();
    *value += 1;
    if attempts.fetch_add(1, SeqCst) < panics as usize {
        panic!("with the lock");
    }
}

pub fn j04_a_panic_poisons_and_a_retry_does_not() -> Outcome {
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

pub fn j04_the_lock_of_a_killed_thread_is_poisoned() -> Outcome {
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

pub fn j04_what_is_lent_is_unchanged_after_a_panic() -> Outcome {
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

pub fn j04_a_failed_call_is_an_error_at_join() -> Outcome {
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

pub fn j05_a_closure_only_builds_the_task() -> Outcome {
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
