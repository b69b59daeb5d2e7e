//! Mutexes, readers-writer locks, once cells and atomics.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use crucial_std::sync::atomic::{AtomicI64, Ordering};
use crucial_std::sync::{self as shared, Mutex, OnceLock, RwLock, mpsc};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use shuttle::thread;

use crate::schedules::{explore, join, once, spawn, travel};

/// Adds while it lets other threads run.
fn add(mutex: &Mutex<u64>, number: u64) {
    let mut value = mutex.lock().unwrap();
    let before = *value;
    thread::yield_now();
    *value = before + number;
}

#[test]
fn a_mutex_loses_no_increment() {
    explore(|| {
        let mutex = Arc::new(Mutex::new(0));
        let threads = [
            spawn(&mutex, |mutex| (0..2).for_each(|_| add(mutex, 1))),
            spawn(&mutex, |mutex| (0..2).for_each(|_| add(mutex, 1))),
            spawn(&mutex, |mutex| add(&travel(mutex), 10)),
        ];
        join(threads);
        assert_eq!(*mutex.lock().unwrap(), 14);
        let mutex = Arc::into_inner(mutex).unwrap();
        assert_eq!(mutex.into_inner().unwrap(), 14);
    });
}

#[test]
fn a_mutex_is_shared_by_several_at_once() {
    explore(|| {
        let mutex = Arc::new(Mutex::new(0));
        let threads = [
            spawn(&mutex, |mutex| add(mutex, 1)),
            spawn(&mutex, |mutex| add(&travel(mutex), 10)),
            spawn(&mutex, |mutex| add(&travel(&travel(mutex)), 100)),
        ];
        join(threads);
        assert_eq!(*mutex.lock().unwrap(), 111);
    });
}

#[test]
fn a_mutex_is_shared_by_its_holder() {
    explore(|| {
        let mutex = Arc::new(Mutex::new(0));
        let waits = spawn(&mutex, |mutex| add(mutex, 1));
        let mut value = mutex.lock().unwrap();
        let other = Arc::new(travel(&*mutex));
        let waits_there = spawn(&other, |other| add(other, 10));
        let before = *value;
        thread::yield_now();
        *value = before + 100;
        drop(value);
        join([waits, waits_there]);
        assert_eq!(*other.lock().unwrap(), 111);
    });
}

#[test]
fn a_mutex_that_is_only_tried_excludes() {
    explore(|| {
        let mutex = Arc::new(Mutex::new(0u64));
        let tries = |mutex: &Mutex<u64>| {
            let Ok(mut value) = mutex.try_lock() else {
                return 0;
            };
            let before = *value;
            thread::yield_now();
            *value = before + 1;
            1
        };
        let threads = [
            spawn(&mutex, move |mutex| tries(mutex) + tries(mutex)),
            spawn(&mutex, move |mutex| tries(mutex)),
            spawn(&mutex, move |mutex| tries(&travel(mutex))),
        ];
        let sum: u64 = join(threads).into_iter().sum();
        assert!(sum > 0);
        assert_eq!(*mutex.lock().unwrap(), sum);
    });
}

#[test]
fn poison_goes_with_the_mutex() {
    explore(|| {
        let mutex = Arc::new(Mutex::new(0));
        let panics = spawn(&mutex, |mutex| {
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                let mut value = mutex.lock().unwrap();
                *value = 5;
                // Without the message of a panic in each schedule.
                resume_unwind(Box::new("planned"));
            }));
            assert!(panicked.is_err());
        });
        let shares = spawn(&mutex, |mutex| drop(travel(mutex)));
        join([panics, shares]);
        let other = travel(&*mutex);
        assert!(other.is_poisoned() && mutex.is_poisoned());
        assert_eq!(**other.lock().unwrap_err().get_ref(), 5);
        mutex.clear_poison();
        assert_eq!(*other.lock().unwrap(), 5);
    });
}

#[test]
fn a_writer_excludes_readers() {
    explore(|| {
        let lock = Arc::new(RwLock::new((0, 0)));
        let write = |lock: &RwLock<(u64, u64)>| {
            let mut pair = lock.write().unwrap();
            pair.0 += 1;
            thread::yield_now();
            pair.1 += 1;
        };
        let read = |lock: &RwLock<(u64, u64)>| {
            let pair = lock.read().unwrap();
            let first = pair.0;
            thread::yield_now();
            assert_eq!(first, pair.1);
        };
        let threads = [
            spawn(&lock, move |lock| write(lock)),
            spawn(&lock, move |lock| {
                read(lock);
                write(lock);
            }),
            spawn(&lock, move |lock| read(lock)),
            spawn(&lock, move |lock| {
                let other = travel(lock);
                read(&other);
                write(&other);
            }),
        ];
        join(threads);
        assert_eq!(*lock.read().unwrap(), (3, 3));
        let lock = Arc::into_inner(lock).unwrap();
        assert_eq!(lock.into_inner().unwrap(), (3, 3));
    });
}

/// Whoever reads while the lock is shared may wait for others who read.
#[test]
fn readers_let_readers_in() {
    explore(|| {
        let lock = Arc::new(RwLock::new(7));
        let guard = lock.read().unwrap();
        let threads = [
            spawn(&lock, |lock| *lock.read().unwrap()),
            spawn(&lock, |lock| *travel(lock).read().unwrap()),
        ];
        assert_eq!(join(threads), [7, 7]);
        let writes = spawn(&lock, |lock| *lock.write().unwrap() = 8);
        assert_eq!(*guard, 7);
        drop(guard);
        join([writes]);
        assert_eq!(*travel(&*lock).read().unwrap(), 8);
    });
}

/// A copy that was left behind would keep the channel open.
#[test]
fn no_copy_of_a_shared_value_stays_here() {
    explore(|| {
        let (sender, receiver) = mpsc::channel::<u64>();
        let lock = Arc::new(RwLock::new(Some(sender)));
        let reads = spawn(&lock, |lock| {
            if let Some(sender) = &*lock.read().unwrap() {
                sender.send(1).unwrap();
            }
        });
        let ends = spawn(&lock, |lock| {
            let sender = travel(lock).write().unwrap().take().unwrap();
            sender.send(1).unwrap();
        });
        join([reads, ends]);
        assert!(receiver.iter().count() >= 1);
    });
}

/// As a thread pool does: the lock of the receiver is taken for each item.
#[test]
fn a_receiver_in_a_mutex_is_taken_again_and_again() {
    explore(|| {
        let (sender, receiver) = mpsc::channel::<u64>();
        let receiver = Arc::new(Mutex::new(receiver));
        let take = |receiver: &Mutex<mpsc::Receiver<u64>>| {
            let mut sum = 0;
            loop {
                let received = receiver.lock().unwrap().recv();
                let Ok(item) = received else {
                    return sum;
                };
                sum += item;
            }
        };
        let threads = [
            spawn(&receiver, move |receiver| take(receiver)),
            spawn(&receiver, move |receiver| take(&travel(receiver))),
        ];
        for item in [1, 10, 100] {
            sender.send(item).unwrap();
        }
        drop(sender);
        assert_eq!(join(threads).into_iter().sum::<u64>(), 111);
    });
}

#[derive(Default, Serialize, Deserialize)]
struct Node {
    next: Option<shared::Arc<Mutex<Node>>>,
}

#[test]
fn a_value_that_leads_back_to_its_lock_is_refused_and_stays() {
    once(|| {
        let node = shared::Arc::new(Mutex::new(Node::default()));
        node.lock().unwrap().next = Some(node.clone());
        let panicked = catch_unwind(AssertUnwindSafe(|| drop(travel(&*node)))).unwrap_err();
        let text = panicked.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panicked.downcast_ref::<&str>().copied()).unwrap();
        assert!(text.contains("leads back"), "{text}");
        let next = node.lock().unwrap().next.take();
        assert!(next.is_some());
        assert!(travel(&*node).lock().unwrap().next.is_none());
    });
}

/// Encodes as nothing that can be read.
#[derive(Debug)]
struct Unsendable;

impl Serialize for Unsendable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("planned"))
    }
}

impl<'de> Deserialize<'de> for Unsendable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Unsendable, D::Error> {
        <()>::deserialize(deserializer).map(|()| Unsendable)
    }
}

#[test]
fn a_value_that_cannot_be_encoded_stays_when_it_is_shared() {
    once(|| {
        let mutex = Mutex::new(Unsendable);
        let shares = AssertUnwindSafe(|| drop(travel(&mutex)));
        assert!(catch_unwind(shares).is_err());
        assert!(matches!(*mutex.lock().unwrap(), Unsendable));
        let (sender, receiver) = mpsc::channel();
        sender.send(Unsendable).unwrap();
        let shares = AssertUnwindSafe(|| drop(travel(&sender)));
        assert!(catch_unwind(shares).is_err());
        assert!(matches!(receiver.recv(), Ok(Unsendable)));
    });
}

/// The lock would stay held for as long as the process lives.
#[test]
fn a_lock_whose_value_cannot_be_encoded_is_given_back_poisoned() {
    once(|| {
        let mutex = Mutex::new(None);
        let other = travel(&mutex);
        let changes = AssertUnwindSafe(|| *mutex.lock().unwrap() = Some(Unsendable));
        assert!(catch_unwind(changes).is_err());
        assert!(other.lock().unwrap_err().get_ref().is_none());
        let lock = RwLock::new(None);
        let changes = AssertUnwindSafe(|| {
            let mut value = lock.write().unwrap();
            drop(travel(&lock));
            *value = Some(Unsendable);
        });
        assert!(catch_unwind(changes).is_err());
        assert!(lock.is_poisoned());
    });
}

#[test]
fn a_once_cell_is_computed_once() {
    explore(|| {
        let cell = Arc::new(OnceLock::new());
        let get = |cell: &OnceLock<u64>, number: u64| {
            let mut computed = 0;
            let value = *cell.get_or_init(|| {
                thread::yield_now();
                computed = 1;
                number
            });
            (value, computed)
        };
        let threads = [
            spawn(&cell, move |cell| get(cell, 1)),
            spawn(&cell, move |cell| get(&travel(cell), 2)),
            spawn(&cell, move |cell| match cell.set(3) {
                Ok(()) => (3, 0),
                Err(_) => (*cell.get().unwrap(), 0),
            }),
        ];
        let results = join(threads);
        let value = *cell.get().unwrap();
        assert!(results.iter().all(|(seen, _)| *seen == value));
        // Whoever sets the value may overtake the one who computes it.
        let computed = results.iter().map(|(_, computed)| computed).sum::<u64>();
        assert!(computed == 1 || (value == 3 && computed == 0));
    });
}

#[test]
fn an_atomic_loses_no_addition() {
    explore(|| {
        let number = Arc::new(AtomicI64::new(0));
        let add = |number: &AtomicI64| number.fetch_add(1, Ordering::SeqCst);
        let threads = [
            spawn(&number, move |number| [add(number), add(number)]),
            spawn(&number, move |number| [add(number), add(number)]),
            spawn(&number, move |number| {
                let other = travel(number);
                [add(&other), add(&other)]
            }),
        ];
        let mut seen = join(threads).concat();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
        let number = Arc::into_inner(number).unwrap();
        assert_eq!(number.into_inner(), 6);
    });
}
