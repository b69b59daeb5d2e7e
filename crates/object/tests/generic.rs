//! The library's objects through `Shared` handles: proxies, a caller, cells, and back.

mod in_process;

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crucial_object::collections::{List, Map};
use crucial_object::sync::{AtomicBool, AtomicI64, AtomicU64, Barrier, Semaphore};
use crucial_object::{Error, Result, Shared, caller, decode, encode, shared};
use in_process::InProcess;
use serde::{Deserialize, Serialize};

/// Runs a program whose objects live in this process.
fn run<R>(program: impl FnOnce() -> Result<R>) -> R {
    caller::with(Arc::new(InProcess::default()), program).unwrap()
}

type Rows = Vec<(u8, Option<i64>)>;

fn rows(count: u8) -> Rows {
    (0..count)
        .map(|n| (n, (n % 2 == 0).then_some(-i64::from(n))))
        .collect()
}

#[test]
fn a_map_of_nested_types_does_all_that_a_map_does() {
    run(|| {
        let map: Shared<Map<String, Rows>> = Shared::new(Map::new())?;
        let key = |text: &str| text.to_owned();
        assert!(map.is_empty()?);
        assert_eq!(map.insert(key("b"), rows(3))?, None);
        assert_eq!(map.insert(key("b"), rows(2))?, Some(rows(3)));
        assert_eq!(map.get(&key("b"))?, Some(rows(2)));
        assert_eq!(map.get(&key("x"))?, None);
        assert_eq!(map.get_or_insert(key("b"), rows(9))?, rows(2));
        assert_eq!(map.get_or_insert(key("a"), rows(0))?, rows(0));
        assert!(!map.compare_and_set(key("a"), None, rows(1))?);
        assert!(map.compare_and_set(key("a"), Some(rows(0)), rows(1))?);
        assert!(map.compare_and_set(key("c"), None, rows(4))?);
        assert!(map.contains_key(&key("c"))?);
        map.extend(vec![(key("d"), rows(5)), (key("a"), rows(6))])?;
        assert_eq!(map.len()?, 4);
        assert_eq!(map.keys()?, ["a", "b", "c", "d"]);
        assert_eq!(map.values()?, [rows(6), rows(2), rows(4), rows(5)]);
        let entries = map.entries()?;
        assert_eq!(entries[1], (key("b"), rows(2)));
        assert_eq!(map.page(None, 3)?, entries[..3]);
        assert_eq!(map.page(Some(key("c")), 3)?, entries[3..]);
        assert_eq!(map.page(Some(key("b")), u64::MAX)?, entries[2..]);
        assert_eq!(map.remove(&key("b"))?, Some(rows(2)));
        assert_eq!(map.remove(&key("b"))?, None);
        map.clear()?;
        assert!(map.is_empty()?);
        Ok(())
    });
}

#[test]
fn a_map_arrives_with_the_entries_that_it_was_made_with() {
    run(|| {
        let entries = [(7u64, "seven".to_owned()), (300, "many".to_owned())];
        let map: Shared<Map<u64, String>> = Shared::new(Map::from_iter(entries.clone()))?;
        assert_eq!(map.len()?, 2);
        for (key, value) in entries {
            assert_eq!(map.get(&key)?, Some(value));
        }
        Ok(())
    });
}

#[test]
fn keys_are_equal_when_their_encodings_are() {
    run(|| {
        let map: Shared<Map<f64, ()>> = Shared::new(Map::new())?;
        map.insert(0.0, ())?;
        assert!(map.contains_key(&0.0)?);
        assert!(!map.contains_key(&-0.0)?);
        map.insert(f64::NAN, ())?;
        assert!(map.contains_key(&f64::NAN)?);
        Ok(())
    });
}

#[test]
fn a_list_does_all_that_a_list_does() {
    run(|| {
        let list: Shared<List<Option<String>>> = Shared::new(List::from(vec![None]))?;
        let item = |text: &str| Some(text.to_owned());
        assert!(!list.is_empty()?);
        list.push(item("b"))?;
        list.extend(vec![item("c"), None, item("d")])?;
        assert_eq!(list.len()?, 5);
        assert_eq!(list.get(0)?, Some(None));
        assert_eq!(list.get(1)?, Some(item("b")));
        assert_eq!(list.get(5)?, None);
        assert_eq!(list.get(u64::MAX)?, None);
        assert_eq!(list.set(1, item("B"))?, item("b"));
        let outside = Error::OutOfBounds { index: 9, len: 5 };
        assert_eq!(list.set(9, item("x")), Err(outside));
        assert!(list.contains(&item("B"))?);
        assert!(!list.contains(&item("x"))?);
        assert_eq!(list.range(1, 2)?, [item("B"), item("c")]);
        assert_eq!(list.range(4, u64::MAX)?, [item("d")]);
        assert_eq!(list.range(u64::MAX, u64::MAX)?, []);
        assert_eq!(list.pop()?, Some(item("d")));
        assert_eq!(list.to_vec()?, [None, item("B"), item("c"), None]);
        list.clear()?;
        assert_eq!(list.pop()?, None);
        assert!(list.is_empty()?);
        Ok(())
    });
}

#[test]
fn elements_of_no_bytes_and_of_many_travel() {
    run(|| {
        let units: Shared<List<()>> = Shared::new(List::from(vec![(); 3]))?;
        units.push(())?;
        assert_eq!(units.to_vec()?, [(); 4]);
        let blobs: Shared<List<Vec<u8>>> = Shared::new(List::new())?;
        blobs.push(vec![7; 1 << 20])?;
        assert_eq!(blobs.get(0)?, Some(vec![7; 1 << 20]));
        Ok(())
    });
}

macro_rules! integer_test {
    ($test:ident, $atomic:ident, $from:expr, $wrapped:expr) => {
        #[test]
        fn $test() {
            run(|| {
                let a: Shared<$atomic> = Shared::new($atomic::new(3))?;
                a.store(12)?;
                assert_eq!(a.swap(10)?, 12);
                assert_eq!(a.fetch_add(5)?, 10);
                assert_eq!(a.fetch_sub(1)?, 15);
                assert_eq!(a.fetch_mul(3)?, 14);
                assert_eq!(a.fetch_and(0b1110)?, 42);
                assert_eq!(a.fetch_or(0b0101)?, 0b1010);
                assert_eq!(a.fetch_xor(0b0011)?, 0b1111);
                assert_eq!(a.fetch_max(20)?, 0b1100);
                assert_eq!(a.fetch_min(9)?, 20);
                assert_eq!(a.compare_exchange(1, 2)?, Err(9));
                assert_eq!(a.compare_exchange(9, $from)?, Ok(9));
                assert_eq!(a.fetch_add(1)?, $from);
                assert_eq!(a.load()?, $wrapped);
                a.store(4)?;
                assert_eq!(a.fetch_update(|n| Some(n * n))?, Ok(4));
                assert_eq!(a.fetch_update(|_| None)?, Err(16));
                assert_eq!(a.load()?, 16);
                Ok(())
            });
        }
    };
}

integer_test!(
    an_atomic_i64_does_all_that_one_does,
    AtomicI64,
    i64::MAX,
    i64::MIN
);
integer_test!(an_atomic_u64_does_all_that_one_does, AtomicU64, u64::MAX, 0);

#[test]
fn an_atomic_bool_does_all_that_one_does() {
    run(|| {
        let a = Shared::new(AtomicBool::new(false))?;
        a.store(true)?;
        assert!(a.swap(false)?);
        assert!(!a.fetch_or(true)?);
        assert!(a.fetch_and(true)?);
        assert!(a.fetch_xor(true)?);
        assert!(!a.fetch_not()?);
        assert_eq!(a.compare_exchange(false, true)?, Err(true));
        assert_eq!(a.compare_exchange(true, false)?, Ok(true));
        assert!(!a.load()?);
        Ok(())
    });
}

#[test]
fn an_update_that_others_always_overtake_gives_up() {
    run(|| {
        let a = Shared::new(AtomicI64::new(0))?;
        let error = a.fetch_update(|n| {
            a.store(n + 1).unwrap();
            Some(0)
        });
        assert!(
            matches!(error, Err(Error::LimitExceeded { .. })),
            "{error:?}"
        );
        Ok(())
    });
}

#[test]
fn a_barrier_holds_threads_until_all_are_there() {
    let process = Arc::new(InProcess::default());
    let (barrier, before) = caller::with(process.clone(), || {
        Ok::<_, Error>((
            Shared::new(Barrier::new(4))?,
            Shared::new(AtomicU64::new(0))?,
        ))
    })
    .unwrap();
    let rounds = 10;
    let party = || -> Result<u64> {
        let mut led = 0;
        for round in 1..=rounds {
            before.fetch_add(1)?;
            led += u64::from(barrier.wait()?.is_leader());
            assert!(before.load()? >= 4 * round);
        }
        Ok(led)
    };
    let led: u64 = thread::scope(|scope| {
        let parties: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| caller::with(process.clone(), party).unwrap()))
            .collect();
        parties.into_iter().map(|party| party.join().unwrap()).sum()
    });
    assert_eq!(led, rounds);
    caller::with(process, || {
        assert_eq!(barrier.parties(), Ok(4));
        assert_eq!(barrier.waiting(), Ok(0));
    });
}

#[test]
fn a_semaphore_does_all_that_one_does() {
    run(|| {
        let semaphore = Shared::new(Semaphore::new(2))?;
        semaphore.acquire()?;
        assert!(semaphore.try_acquire()?);
        assert!(!semaphore.try_acquire()?);
        assert!(!semaphore.acquire_timeout(Duration::from_millis(1))?);
        semaphore.release_many(3)?;
        assert!(semaphore.acquire_timeout(Duration::from_millis(1))?);
        assert!(semaphore.try_acquire_many(2)?);

        let many = semaphore.deferred().acquire_many(2);
        let one = semaphore.deferred().acquire();
        assert_eq!(semaphore.waiting()?, 2);
        semaphore.release()?;
        // The first in line needs two; the second one does not overtake it.
        assert!(!semaphore.try_acquire()?);
        assert_eq!(semaphore.available_permits()?, 1);
        semaphore.release_many(2)?;
        many.wait()?;
        one.wait()?;
        assert_eq!(
            (semaphore.waiting()?, semaphore.available_permits()?),
            (0, 0)
        );
        Ok(())
    });
}

#[test]
fn a_waiting_call_that_is_dropped_is_withdrawn() {
    run(|| {
        let semaphore = Shared::new(Semaphore::new(0))?;
        let first = semaphore.deferred().acquire();
        let second = semaphore.deferred().acquire();
        drop(first);
        semaphore.release()?;
        second.wait()?;
        assert_eq!(semaphore.available_permits()?, 0);
        Ok(())
    });
}

#[test]
fn a_timeout_belongs_to_a_handle_and_does_not_travel() {
    run(|| {
        let barrier = Shared::new(Barrier::new(2))?;
        let after = Duration::from_millis(5);
        let hurried = barrier.with_timeout(after);
        assert_eq!(hurried, barrier);
        assert_eq!(hurried.wait(), Err(Error::TimedOut { after }));
        assert_eq!(barrier.waiting()?, 0);
        assert_eq!(encode(&hurried)?, encode(&barrier)?);
        Ok(())
    });
}

#[test]
fn deferred_calls_take_effect_in_order_and_can_be_waited_for_in_any() {
    run(|| {
        let list: Shared<List<u32>> = Shared::new(List::new())?;
        let pushes: Vec<_> = (0..50).map(|n| list.deferred().push(n)).collect();
        let all = list.deferred().to_vec();
        let gone = list.deferred().pop();
        assert_eq!(gone.wait()?, Some(49));
        assert_eq!(all.wait()?, Vec::from_iter(0..50));
        for push in pushes.into_iter().rev() {
            push.wait()?;
        }
        Ok(())
    });
}

#[test]
fn deferred_calls_can_be_awaited() {
    use std::task::{Context, Poll, Waker};
    run(|| {
        let semaphore = Shared::new(Semaphore::new(0))?;
        let mut acquired = std::pin::pin!(async {
            let waiting = semaphore.deferred().acquire();
            waiting.await?;
            semaphore.deferred().available_permits().await
        });
        let mut context = Context::from_waker(Waker::noop());
        assert!(acquired.as_mut().poll(&mut context).is_pending());
        semaphore.release_many(8)?;
        assert_eq!(acquired.as_mut().poll(&mut context), Poll::Ready(Ok(7)));
        Ok(())
    });
}

#[test]
fn without_a_runtime_calls_say_what_is_missing() {
    let handle: Shared<AtomicI64> = decode(&encode(&([1u8; 16], None::<String>)).unwrap()).unwrap();
    assert!(matches!(handle.load(), Err(Error::Config { .. })));
    let deferred = handle.deferred().load();
    assert!(matches!(deferred.wait(), Err(Error::Config { .. })));
}

#[test]
fn a_deleted_object_is_lost_and_named_in_the_error() {
    run(|| {
        let named: Shared<AtomicI64> = Shared::named("hits", AtomicI64::new(1))?;
        let waiting = Shared::new(Semaphore::new(0))?;
        let call = waiting.deferred().acquire();
        assert!(waiting.delete()?);
        assert!(matches!(call.wait(), Err(Error::Lost { .. })));
        assert!(named.delete()?);
        assert!(!named.delete()?);
        let Err(Error::Lost { object }) = named.load() else {
            panic!();
        };
        assert_eq!(object, "crucial::AtomicI64 \"hits\"");
        Ok(())
    });
}

#[test]
fn a01_the_second_initial_value_is_ignored_a02_unless_it_recreates() {
    run(|| {
        let first = Shared::named("n", AtomicI64::new(1))?;
        let second = Shared::named("n", AtomicI64::new(2))?;
        assert_eq!(second.load()?, 1);
        let third = Shared::builder("n").recreate().create(AtomicI64::new(3))?;
        assert_eq!((first.load()?, third.load()?), (3, 3));
        assert_eq!(Shared::<AtomicI64>::open("n")?, first);
        let missing = Shared::<AtomicI64>::open("m");
        assert!(matches!(missing, Err(Error::NotFound { .. })));
        Ok(())
    });
}

#[test]
fn a11_handles_are_equal_if_and_only_if_they_name_one_object_and_hash_alike() {
    run(|| {
        let here = Shared::named("x", AtomicI64::new(0))?;
        let again = Shared::named("x", AtomicI64::new(9))?;
        let copy: Shared<AtomicI64> = decode(&encode(&here)?)?;
        let other = Shared::named("y", AtomicI64::new(0))?;
        let anonymous = [
            Shared::new(AtomicI64::new(0))?,
            Shared::new(AtomicI64::new(0))?,
        ];
        let persistent = Shared::builder("x")
            .persistent()
            .create(AtomicI64::new(0))?;
        assert!(here == again && here == copy && here == here.clone());
        assert_eq!((copy.key(), anonymous[0].key()), (Some("x"), None));
        let mut all = HashSet::from([here, again, copy, other, persistent]);
        all.extend(anonymous);
        assert_eq!(all.len(), 5);
        // A03: of one key and two types there are two objects.
        let boolean = Shared::named("x", AtomicBool::new(false))?;
        assert!(all.iter().all(|handle| handle.id() != boolean.id()));
        Ok(())
    });
}

/// An object that holds handles, to objects of its own type as well.
#[derive(Default, Serialize, Deserialize)]
struct Node {
    hits: Option<Shared<AtomicI64>>,
    next: Option<Shared<Node>>,
}

#[shared(crate = crucial_object)]
impl Node {
    fn count_in(&mut self, hits: Shared<AtomicI64>) {
        self.hits = Some(hits);
    }

    fn link(&mut self, next: &Shared<Node>) {
        self.next = Some(next.clone());
    }

    fn hits(&self) -> Option<Shared<AtomicI64>> {
        self.hits.clone()
    }

    fn next(&self) -> Option<Shared<Node>> {
        self.next.clone()
    }
}

#[test]
fn a13_an_object_gives_back_the_handle_that_it_holds() {
    run(|| {
        let hits = Shared::named("hits", AtomicI64::new(1))?;
        let node = Shared::new(Node {
            hits: Some(hits.clone()),
            next: None,
        })?;
        let back = node.hits()?.unwrap();
        assert_eq!((&back, back.key()), (&hits, Some("hits")));
        assert_eq!(back.fetch_add(1)?, 1);
        let anonymous = Shared::new(AtomicI64::new(5))?;
        node.count_in(anonymous.clone())?;
        assert_eq!(node.hits()?.unwrap().load()?, 5);
        // In library collections they are elements as any other.
        let map: Shared<Map<String, Shared<AtomicI64>>> = Shared::new(Map::new())?;
        map.insert("it".to_owned(), hits.clone())?;
        assert_eq!(map.get(&"it".to_owned())?.unwrap().load()?, 2);
        Ok(())
    });
}

#[test]
fn a15_handles_can_form_cycles() {
    run(|| {
        let [a, b] = [Shared::new(Node::default())?, Shared::new(Node::default())?];
        a.link(&b)?;
        b.link(&a)?;
        let mut here = a.clone();
        for step in 1..=5 {
            here = here.next()?.unwrap();
            assert_eq!(here, if step % 2 == 1 { b.clone() } else { a.clone() });
        }
        a.link(&a)?;
        assert_eq!(a.next()?.unwrap(), a);
        Ok(())
    });
}

/// Its parameters are named as the variables of the macro's expansion.
#[derive(Default, Serialize, Deserialize)]
struct Names {
    sum: u64,
}

#[shared(crate = crucial_object)]
impl Names {
    fn add(&mut self, out: u64, ticket: u64, memory: u64, result: u64, arguments: u64) -> u64 {
        self.sum += out + ticket + memory + result + arguments;
        self.sum
    }

    fn wait(
        &mut self,
        out: u64,
        memory: u64,
        index: u64,
        target: u64,
        #[ticket] ticket: &mut Option<u64>,
    ) -> std::task::Poll<u64> {
        let before = ticket.replace(out + memory + index + target).unwrap_or(0);
        std::task::Poll::Ready(before + self.sum)
    }
}

#[test]
fn parameters_can_have_any_names() {
    run(|| {
        let names = Shared::new(Names::default())?;
        assert_eq!(names.add(1, 2, 3, 4, 5)?, 15);
        assert_eq!(names.deferred().add(1, 2, 3, 4, 5).wait()?, 30);
        assert_eq!(names.wait(1, 2, 3, 4)?, 30);
        Ok(())
    });
}
