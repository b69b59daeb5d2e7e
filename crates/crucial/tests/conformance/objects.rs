//! A: shared objects.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crucial::collections::{List, Map, Set};
use crucial::sync::{AtomicBool, AtomicI64};
use crucial::{Error, Shared, cloud, thread};
use crucial_object::caller;
use libtest_mimic::Trial;

use crate::Outcome;
use crate::program::Program;
use crate::server::{self, Server};
use crate::trials;
use crate::types::{Desk, Echo, Node, Probe, Stack};
use crate::uploaded;

pub fn trials() -> Vec<Trial> {
    trials![
        a04_lists_written_by_one_client_are_read_by_another,
        a19_three_clients_insert_5000_items_and_each_is_new_once,
        a22_a_namespace_is_cleared,
        a01_two_processes_that_ask_for_one_key_get_one_object,
        a02_recreate_replaces_the_object_for_everybody,
        a03_one_key_with_two_types_is_two_objects,
        a05_dropping_a_handle_deletes_nothing,
        a06_persistent_objects_outlive_their_process_and_ephemeral_ones_do_not,
        a06_ephemeral_objects_go_when_their_program_is_killed,
        a07_methods_of_user_types_run_on_the_server,
        a09_two_runs_at_the_same_time_do_not_see_each_other,
        a11_handles_are_equal_if_they_name_the_same_object,
        a12_a_handle_arrives_as_a_handle_to_the_same_object,
        a13_an_object_gives_back_the_handle_that_it_holds,
        a14_nested_calls_give_a_clear_error,
        a15_cycles_of_handles_are_legal,
        a16_a_method_that_creates_an_object_gives_a_clear_error,
        a17_a_failing_method_says_what_and_where_and_harms_nothing_else,
        a17_poison_is_cleared_or_recreated,
        a17_a_method_that_refuses_says_why,
        a18_what_is_not_there_is_a_clear_error,
        a19_concurrent_inserts_of_one_key_have_one_winner,
        a20_calls_over_many_counters_add_up,
        a21_slow_and_waiting_methods_delay_no_other_object,
        a24_values_of_10_mb,
        a25_arguments_of_all_shapes_travel,
        a25_a_generic_type_takes_what_its_server_does_not_know,
    ]
}

#[cloud]
fn get_or_create(value: i64) -> crucial::Result<i64> {
    let shared = Shared::named("a01", AtomicI64::new(value))?;
    shared.load()
}

fn a01_two_processes_that_ask_for_one_key_get_one_object() -> Outcome {
    let threads: Vec<_> = [1, 2].map(|v| thread::spawn(get_or_create(v))).into();
    let mut seen = HashSet::new();
    for thread in threads {
        seen.insert(thread.join()??);
    }
    seen.insert(Shared::named("a01", AtomicI64::new(3))?.load()?);
    assert_eq!(seen.len(), 1);
    assert!(seen.is_subset(&HashSet::from([1, 2])));
    Ok(())
}

fn a02_recreate_replaces_the_object_for_everybody() -> Outcome {
    let old = Shared::named("a02", Probe::default())?;
    old.add(7)?;
    let waiting = old.deferred().at_least(100);
    let new = Shared::builder("a02").recreate().create(Probe::default())?;
    assert!(matches!(waiting.wait(), Err(Error::Lost { .. })));
    assert_eq!(new.add(1)?, 1);
    assert_eq!(old.add(1)?, 2);
    Ok(())
}

fn a03_one_key_with_two_types_is_two_objects() -> Outcome {
    let number = Shared::named("a03", AtomicI64::new(5))?;
    let flag = Shared::named("a03", AtomicBool::new(true))?;
    assert_eq!((number.load()?, flag.load()?), (5, true));
    Ok(())
}

fn a05_dropping_a_handle_deletes_nothing() -> Outcome {
    drop(Shared::named("a05", AtomicI64::new(5))?);
    assert_eq!(Shared::<AtomicI64>::open("a05")?.load()?, 5);
    Ok(())
}

fn a06_persistent_objects_outlive_their_process_and_ephemeral_ones_do_not() -> Outcome {
    let server = Server::start(&[])?;
    assert_eq!(server.run("make")?, "made\n");
    assert_eq!(server.run("find")?, "persistent: 42, ephemeral: none\n");
    assert_eq!(server.run("delete")?, "deleted: true, again: false\n");
    assert_eq!(server.run("find")?, "persistent: none, ephemeral: none\n");
    Ok(())
}

fn a06_ephemeral_objects_go_when_their_program_is_killed() -> Outcome {
    let server = Server::fresh(&["--lease-ms", "1000", "--objects-max", "1"])?;
    let mut program = Program::start("hold", Some(&server))?;
    assert_eq!(program.line()?, "holding");
    program.kill()?;
    // There is room for another object when the first is gone.
    let start = Instant::now();
    while server.run("hold-and-go")? != "holding\n" {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "the object stays"
        );
    }
    Ok(())
}

#[cloud]
fn where_it_runs(probe: Shared<Probe>) -> crucial::Result<(Option<u32>, u32)> {
    Ok((probe.process()?, std::process::id()))
}

fn a07_methods_of_user_types_run_on_the_server() -> Outcome {
    let servers = server::processes()?;
    let probe = Shared::new(Probe::default())?;
    let (object, worker) = thread::spawn(where_it_runs(probe.clone())).join()??;
    // An uploaded type runs in a sandbox.
    match *uploaded::COMMAND {
        Some(_) => assert_eq!(object, None),
        None => assert!(object.is_some_and(|id| servers.contains(&id)), "{object:?}"),
    }
    assert_ne!(worker, std::process::id());
    // The state stays where it is: 100 MB that do not travel.
    probe.grow(100_000_000)?;
    assert_eq!(probe.sum()?, 700_000_000);
    Ok(())
}

fn a09_two_runs_at_the_same_time_do_not_see_each_other() -> Outcome {
    let server = Server::start(&[])?;
    let mut programs = Vec::new();
    for _ in 0..2 {
        programs.push(Program::start("count-to-1000", Some(&server))?);
    }
    for program in programs {
        assert_eq!(program.output()?, "1000\n");
    }
    Ok(())
}

fn a11_handles_are_equal_if_they_name_the_same_object() -> Outcome {
    let one = Shared::named("a11", AtomicI64::new(0))?;
    let same = Shared::<AtomicI64>::open("a11")?;
    let other = Shared::named("a11-other", AtomicI64::new(0))?;
    let hash = RandomState::new();
    assert_eq!(one, same);
    assert_eq!(hash.hash_one(&one), hash.hash_one(&same));
    assert_ne!(one, other);
    assert_ne!(one, Shared::new(AtomicI64::new(0))?);
    Ok(())
}

#[cloud]
fn give_back(handle: Shared<AtomicI64>) -> crucial::Result<Shared<AtomicI64>> {
    handle.fetch_add(1)?;
    Ok(handle)
}

fn a12_a_handle_arrives_as_a_handle_to_the_same_object() -> Outcome {
    let counter = Shared::new(AtomicI64::new(0))?;
    let back = thread::spawn(give_back(counter.clone())).join()??;
    assert_eq!(back, counter);
    let list = Shared::new(List::from(vec![counter.clone()]))?;
    let out = list.get(0)?.ok_or("empty")?;
    assert_eq!(out, counter);
    out.fetch_add(1)?;
    assert_eq!(counter.load()?, 2);
    Ok(())
}

fn a13_an_object_gives_back_the_handle_that_it_holds() -> Outcome {
    let (a, b) = (Shared::new(Node::new("a"))?, Shared::new(Node::new("b"))?);
    assert_eq!(a.next()?, None);
    a.link(b.clone())?;
    assert_eq!(a.next()?, Some(b.clone()));
    assert_eq!(a.next()?.ok_or("no next")?.label()?, "b");
    Ok(())
}

fn a14_nested_calls_give_a_clear_error() -> Outcome {
    let (a, b) = (
        Shared::new(Probe::default())?,
        Shared::new(Probe::default())?,
    );
    assert_eq!(a.call_other(b.clone())?, Err(Error::Nested));
    assert_eq!(b.add(0)?, 0);
    Ok(())
}

fn a16_a_method_that_creates_an_object_gives_a_clear_error() -> Outcome {
    let probe = Shared::new(Probe::default())?;
    assert_eq!(probe.make_another()?, Err(Error::Nested));
    Ok(())
}

fn a15_cycles_of_handles_are_legal() -> Outcome {
    let (a, b) = (Shared::new(Node::new("a"))?, Shared::new(Node::new("b"))?);
    a.link(b.clone())?;
    b.link(a.clone())?;
    let round = a.next()?.ok_or("no next")?.next()?;
    assert_eq!(round, Some(a.clone()));
    a.link(a.clone())?;
    assert_eq!(a.next()?, Some(a));
    Ok(())
}

fn a17_a_failing_method_says_what_and_where_and_harms_nothing_else() -> Outcome {
    let (fragile, other) = (
        Shared::new(Probe::default())?,
        Shared::new(Probe::default())?,
    );
    assert_eq!(fragile.divide(0)?, Err("division by zero".to_owned()));
    match fragile.explode_reading() {
        Err(Error::Panicked {
            what,
            message,
            location,
        }) => {
            assert!(what.ends_with("Probe::explode_reading"), "{what}");
            assert_eq!(message, "only reading");
            assert!(location.contains("types.rs:"), "{location}");
        }
        unexpected => panic!("{unexpected:?}"),
    }
    assert_eq!(fragile.add(1)?, 1);
    assert!(
        matches!(fragile.explode(5), Err(Error::Panicked { message, .. }) if message == "exploded at 6")
    );
    assert!(
        matches!(fragile.add(1), Err(Error::Poisoned { message, .. }) if message == "exploded at 6")
    );
    assert_eq!(other.add(1)?, 1);
    Ok(())
}

fn a17_poison_is_cleared_or_recreated() -> Outcome {
    let fragile = Shared::named("a17", Probe::default())?;
    assert!(fragile.explode(5).is_err());
    assert!(fragile.clear_poison()?);
    assert!(!fragile.clear_poison()?);
    assert_eq!(fragile.add(0)?, 5);
    assert!(fragile.explode(5).is_err());
    Shared::builder("a17").recreate().create(Probe::default())?;
    assert_eq!(fragile.add(0)?, 0);
    Ok(())
}

fn a17_a_method_that_refuses_says_why() -> Outcome {
    let desk = Shared::new(Desk::default())?;
    assert_eq!(desk.stand_up(), Err(Error::from("somebody else sits here")));
    assert_eq!(desk.sit()?, 1);
    assert!(desk.is_mine()?);
    desk.stand_up()?;
    assert!(!desk.is_mine()?);
    Ok(())
}

fn a18_what_is_not_there_is_a_clear_error() -> Outcome {
    let missing = Shared::<AtomicI64>::open("a18").map(drop);
    assert!(
        matches!(&missing, Err(Error::NotFound { key, .. }) if key == "a18"),
        "{missing:?}"
    );
    let deleted = Shared::named("a18-deleted", AtomicI64::new(0))?;
    assert!(deleted.delete()?);
    let gone = deleted.load();
    assert!(
        matches!(&gone, Err(Error::Lost { object }) if object.contains("a18-deleted")),
        "{gone:?}"
    );
    // A list where a map is expected: the same key, but another type.
    Shared::named("a18-list", List::<String>::new())?;
    assert!(Shared::<Map<String, String>>::open("a18-list").is_err());
    // Elements of another type than the reader thinks: seen where the list is opened, or when one is read.
    let text = "not a number".to_owned();
    let strings = Shared::named("a18-strings", List::from(vec![(1u64, text)]))?;
    let other = Shared::<List<u64>>::open("a18-strings");
    assert!(
        matches!(&other, Err(Error::Refused { reason }) if reason.contains("crucial::List<u64>")),
        "{other:?}"
    );
    let numbers = Shared::<List<(u64, u64)>>::open("a18-strings")?;
    assert!(matches!(numbers.get(0), Err(Error::Encoding { .. })));
    assert_eq!(strings.len()?, 1);
    Ok(())
}

#[cloud]
fn insert_all(count: u64, set: Shared<Map<u64, ()>>) -> crucial::Result<u64> {
    let mut new = 0;
    for i in 0..count {
        new += u64::from(set.insert(i, ())?.is_none());
    }
    Ok(new)
}

fn a19_concurrent_inserts_of_one_key_have_one_winner() -> Outcome {
    let set = Shared::new(Map::new())?;
    let won = thread::map(0..3, |_| insert_all(5000, set.clone()))?;
    let won: u64 = won.into_iter().sum::<crucial::Result<u64>>()?;
    assert_eq!((won, set.len()?), (5000, 5000));
    Ok(())
}

#[cloud]
fn increment_all(rounds: usize, counters: &[Shared<AtomicI64>]) -> crucial::Result<()> {
    for _ in 0..rounds {
        for counter in counters {
            counter.fetch_add(1)?;
        }
    }
    Ok(())
}

fn a20_calls_over_many_counters_add_up() -> Outcome {
    let counters: Vec<_> = (0..10)
        .map(|_| Shared::new(AtomicI64::new(0)))
        .collect::<Result<_, _>>()?;
    for result in thread::map(0..4, |_| increment_all(200, &counters))? {
        result?;
    }
    let mut total = 0;
    for counter in &counters {
        total += counter.load()?;
    }
    assert_eq!(total, 4 * 200 * 10);
    Ok(())
}

fn a21_slow_and_waiting_methods_delay_no_other_object() -> Outcome {
    let slow = Shared::new(Probe::default())?;
    let waiting = Shared::new(Probe::default())?;
    let quick = Shared::new(AtomicI64::new(0))?;
    let slept = slow.deferred().sleep(Duration::from_secs(2));
    let waited = waiting.deferred().at_least(1);
    let start = Instant::now();
    for _ in 0..100 {
        quick.fetch_add(1)?;
    }
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    waiting.add(1)?;
    assert_eq!(waited.wait()?, 1);
    slept.wait()?;
    Ok(())
}

fn a24_values_of_10_mb() -> Outcome {
    let map = Shared::new(Map::<u8, Vec<u8>>::new())?;
    for key in 0..15 {
        assert_eq!(map.insert(key, vec![key; 10_000_000])?, None);
    }
    assert_eq!(map.len()?, 15);
    for key in 0..15 {
        assert!(map.get(&key)?.is_some_and(|v| v == vec![key; 10_000_000]));
    }
    map.delete()?;
    Ok(())
}

fn a25_arguments_of_all_shapes_travel() -> Outcome {
    let echo = Shared::new(Echo)?;
    echo.unit(())?;
    for value in [None, Some(None), Some(Some(7))] {
        assert_eq!(echo.option(value)?, value);
    }
    for value in [Ok(String::new()), Err((-1, 'ß'))] {
        assert_eq!(echo.result(value.clone())?, value);
    }
    assert!(echo.bytes(vec![])?.is_empty());
    // An argument is there four times while it is sent back, and a sandbox has no more than 256 MB.
    let size = if uploaded::COMMAND.is_some() {
        16 << 20
    } else {
        64 << 20
    };
    let huge: Vec<u8> = (0..size).map(|i: u32| i as u8).collect();
    assert!(echo.bytes(huge.clone())? == huge);
    assert_eq!(
        echo.borrowed("text", &[0.5, -0.0], &(1, "two".to_owned()))?,
        r#"text [0.5, -0.0] (1, "two")"#
    );
    let map = [("k".to_owned(), vec![true, false])].into();
    assert_eq!(
        echo.many(255, i128::MIN, f64::INFINITY, '✓', map)?,
        format!("255 {} inf ✓ {{\"k\": [true, false]}}", i128::MIN)
    );
    // Over the limit: refused, with its name, and the connection goes on.
    let too_large = echo.bytes(vec![0; 300 << 20]);
    assert!(
        matches!(&too_large, Err(Error::LimitExceeded { limit, .. }) if limit == "frame_bytes_max")
    );
    echo.unit(())?;
    Ok(())
}

#[cloud]
fn push_word(word: String, stack: Shared<Stack<(String, u8)>>) -> crucial::Result<()> {
    stack.push((word, 7))
}

fn a25_a_generic_type_takes_what_its_server_does_not_know() -> Outcome {
    let stack = Shared::new(Stack::default())?;
    let first = stack.deferred().pop();
    thread::spawn(push_word("word".to_owned(), stack.clone())).join()??;
    assert_eq!(first.wait()?, ("word".to_owned(), 7));
    // The same type, of something else.
    let numbers = Shared::new(Stack::default())?;
    numbers.push(0.5)?;
    numbers.push(-0.0f64)?;
    assert_eq!(numbers.pop()?.to_bits(), (-0.0f64).to_bits());
    assert_eq!(numbers.pop()?, 0.5);
    Ok(())
}

fn a04_lists_written_by_one_client_are_read_by_another() -> Outcome {
    let server = Server::start(&[])?;
    let list = |index: u64| Shared::builder(format!("list-{index}")).persistent();
    caller::with(server.client()?, || -> Outcome {
        for index in 0..100 {
            let list = list(index).create(List::new())?;
            list.extend((0..index).collect())?;
        }
        Ok(())
    })?;
    caller::with(server.client()?, || -> Outcome {
        for index in 0..100 {
            let list: Shared<List<u64>> = list(index).open()?;
            assert_eq!(list.to_vec()?, (0..index).collect::<Vec<_>>());
        }
        Ok(())
    })
}

#[cloud]
fn insert_items(items: u64, set: Shared<Set<u64>>) -> crucial::Result<u64> {
    let mut new = 0;
    for item in 0..items {
        new += u64::from(set.insert(item)?);
    }
    Ok(new)
}

fn a19_three_clients_insert_5000_items_and_each_is_new_once() -> Outcome {
    let set = Shared::new(Set::new())?;
    let counts = thread::map(0..3, |_| insert_items(5000, set.clone()))?;
    let counts: Vec<u64> = counts.into_iter().collect::<crucial::Result<_>>()?;
    assert_eq!(counts.iter().sum::<u64>(), 5000, "{counts:?}");
    assert_eq!(set.len()?, 5000);
    Ok(())
}

fn a22_a_namespace_is_cleared() -> Outcome {
    let server = Server::start(&[])?;
    let make = || -> crucial::Result<Vec<Shared<AtomicI64>>> {
        let make = |key: &str| Shared::builder(key).persistent().create(AtomicI64::new(1));
        ["a", "b", "c"].into_iter().map(make).collect()
    };
    let other = format!("{}-other", server.namespace);
    let (one, other) = (server.client()?, server.client_in(&other)?);
    let kept = caller::with(other.clone(), make)?;
    caller::with(one, || -> Outcome {
        let made = make()?;
        let of_the_run = Shared::new(AtomicI64::new(2))?;
        assert!(made[0].delete()?);
        assert_eq!(crucial::clear_namespace()?, 2);
        assert!(matches!(made[1].load(), Err(Error::Lost { .. })));
        assert_eq!(of_the_run.load()?, 2);
        assert_eq!(crucial::clear_namespace()?, 0);
        // And it can be used again.
        assert_eq!(make()?[2].load()?, 1);
        Ok(())
    })?;
    caller::with(other, || assert_eq!(kept[1].load(), Ok(1)));
    Ok(())
}
