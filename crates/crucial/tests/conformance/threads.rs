//! F: cloud threads.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crucial::collections::{List, Queue};
use crucial::sync::{AtomicI64, Barrier, Latch};
use crucial::{Error, Shared, cloud, thread};
use libtest_mimic::Trial;
use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::program::Program;
use crate::trials;

pub fn trials() -> Vec<Trial> {
    trials![
        f01_spawn_and_join,
        f02_in_process_mode_goes_through_serialization,
        f03_results_of_any_serde_type,
        f04_results_of_100_tasks_in_order,
        f04_waiting_with_a_timeout,
        f05_a_panic_and_an_err_arrive_at_join,
        f06_retries_count_and_delay,
        f07_parallel_for_runs_each_index_once,
        f08_what_cannot_be_sent_is_refused_before_anything_runs,
        f09_handles_in_tasks_work,
        f09_a_thread_spawns_threads_of_the_same_run,
        f01_names_are_checked,
        f10_800_threads_at_the_same_time,
        f11_a_detached_thread_runs_on,
        f16_a_killed_worker_is_an_error_or_a_retry,
        f17_time_and_memory_limits_are_kept,
        f01_scope_waits_for_its_threads,
        f13_one_suite_passes_on_two_platforms,
        f15_the_end_of_a_program_ends_its_own_threads_only,
    ]
}

#[cloud]
fn double(n: u64) -> u64 {
    2 * n
}

fn f01_spawn_and_join() -> Outcome {
    let thread = thread::spawn(double(21));
    assert!(thread.name().starts_with("double-"), "{}", thread.name());
    assert_eq!(thread.join()?, 42);
    assert_eq!(double(4).run_here()?, 8);
    Ok(())
}

/// Loses a field when it travels.
#[derive(Serialize, Deserialize)]
struct Forgetful {
    kept: u32,
    #[serde(skip)]
    lost: u32,
}

#[cloud]
fn remember(value: Forgetful) -> (u32, u32, u32) {
    (value.kept, value.lost, std::process::id())
}

/// Programs of these tests.
pub fn program(name: &str) -> Option<crucial::Result<()>> {
    if name == "leave-threads" {
        return Some(leave_threads());
    }
    if name == "suite" {
        return Some(suite());
    }
    (name == "in-process").then(|| {
        let value = Forgetful { kept: 1, lost: 2 };
        let (kept, lost, process) = thread::spawn(remember(value)).join()?;
        println!("{kept} {lost} {}", process == std::process::id());
        Ok(())
    })
}

fn f02_in_process_mode_goes_through_serialization() -> Outcome {
    let mut command = Program::command("in-process")?;
    command.env("CRUCIAL_PLATFORM", "in-process");
    assert_eq!(Program::start_command(command)?.output()?, "1 0 true\n");
    assert_eq!(Program::start("in-process", None)?.output()?, "1 0 false\n");
    Ok(())
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Empty,
    Named {
        points: Vec<(f64, f64)>,
        tags: BTreeMap<String, Option<u8>>,
    },
}

#[cloud]
fn same(shape: &Shape, text: &str, bytes: &[u8]) -> Result<(Shape, String, Vec<u8>), String> {
    Ok((shape.clone(), text.to_owned(), bytes.to_owned()))
}

fn f03_results_of_any_serde_type() -> Outcome {
    let named = Shape::Named {
        points: vec![(1.5, f64::NEG_INFINITY)],
        tags: [("t".to_owned(), Some(1))].into(),
    };
    for shape in [Shape::Empty, named] {
        let result = thread::spawn(same(&shape, "text", &[1, 2])).join()?;
        assert_eq!(result, Ok((shape, "text".to_owned(), vec![1, 2])));
    }
    Ok(())
}

fn f04_results_of_100_tasks_in_order() -> Outcome {
    let results = thread::map(0..100, double)?;
    assert!(results.into_iter().eq((0..100).map(|n| 2 * n)));
    Ok(())
}

#[cloud]
fn wait_for(barrier: Shared<Barrier>) -> crucial::Result<()> {
    barrier.wait().map(drop)
}

fn f04_waiting_with_a_timeout() -> Outcome {
    let barrier = Shared::new(Barrier::new(2))?;
    let thread = thread::spawn(wait_for(barrier.clone()));
    assert!(!thread.wait_timeout(Duration::from_millis(50)));
    assert!(!thread.is_finished());
    barrier.wait()?;
    assert!(thread.wait_timeout(Duration::from_secs(30)));
    assert!(thread.is_finished());
    thread.join()??;
    Ok(())
}

#[cloud]
fn fail(how: &str) -> crucial::Result<u8> {
    match how {
        "panic" => panic!("as {}", "told"),
        "io" => Ok(std::fs::read("/no/such/file")?[0]),
        text => Err(text.into()),
    }
}

fn f05_a_panic_and_an_err_arrive_at_join() -> Outcome {
    match thread::Builder::new()
        .name("doomed")
        .spawn(fail("panic"))?
        .join()
    {
        Err(Error::Panicked {
            what,
            message,
            location,
        }) => {
            assert!(what.contains("doomed"), "{what}");
            assert_eq!(message, "as told");
            assert!(location.contains("threads.rs:"), "{location}");
        }
        unexpected => panic!("{unexpected:?}"),
    }
    assert_eq!(
        thread::spawn(fail("wrong")).join()?,
        Err(Error::Other("wrong".to_owned()))
    );
    let io = thread::spawn(fail("io")).join()?.unwrap_err().to_string();
    assert!(io.contains("No such file"), "{io}");
    assert!(matches!(
        fail("panic").run_here(),
        Err(Error::Panicked { .. })
    ));
    Ok(())
}

#[cloud]
fn fail_until(attempt: u32, tries: Shared<AtomicI64>) -> crucial::Result<u32> {
    tries.fetch_add(1)?;
    let this = thread::current().map_or(0, |thread| thread.attempt());
    assert!(this >= attempt, "attempt {this} fails");
    Ok(this)
}

fn f06_retries_count_and_delay() -> Outcome {
    let tries = Shared::new(AtomicI64::new(0))?;
    let delay = Duration::from_millis(100);
    let start = Instant::now();
    let thread = thread::Builder::new().retries(5).retry_delay(delay);
    assert_eq!(thread.spawn(fail_until(3, tries.clone()))?.join()??, 3);
    assert!(start.elapsed() >= 2 * delay);
    assert_eq!(tries.swap(0)?, 3);

    let thread = thread::Builder::new().retries(2);
    let given_up = thread.spawn(fail_until(9, tries.clone()))?.join();
    assert!(
        matches!(given_up, Err(Error::Panicked { message, .. }) if message == "attempt 3 fails")
    );
    assert_eq!(tries.load()?, 3);
    Ok(())
}

#[cloud]
fn record(index: u64, done: Shared<List<u64>>) -> crucial::Result<u64> {
    done.push(index)?;
    Ok(index * index)
}

#[cloud]
fn finish(worker: usize, finished: Shared<List<(usize, u32)>>) -> crucial::Result<()> {
    finished.push((worker, std::process::id()))
}

fn f07_parallel_for_runs_each_index_once() -> Outcome {
    let done = Shared::new(List::new())?;
    let finished = Shared::new(List::new())?;
    let results = thread::ParallelFor::new(10..43)
        .workers(4)
        .finalizer(|worker| finish(worker, finished.clone()))
        .each(|index| record(index, done.clone()))?;
    let results: Vec<u64> = results.into_iter().collect::<Result<_, _>>()?;
    assert!(results.into_iter().eq((10..43).map(|i| i * i)));
    let mut done = done.to_vec()?;
    done.sort_unstable();
    assert!(done.into_iter().eq(10..43));
    let mut finished = finished.to_vec()?;
    finished.sort_unstable();
    assert!(finished.iter().map(|(worker, _)| *worker).eq(0..4));
    Ok(())
}

/// A value that cannot be encoded.
struct Unsendable;

impl Serialize for Unsendable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("it holds a socket"))
    }
}

impl<'de> Deserialize<'de> for Unsendable {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Unsendable)
    }
}

#[cloud]
fn take(n: u64, value: Unsendable, ran: Shared<AtomicI64>) -> crucial::Result<()> {
    let _ = (n, value);
    ran.fetch_add(1).map(drop)
}

fn f08_what_cannot_be_sent_is_refused_before_anything_runs() -> Outcome {
    let ran = Shared::new(AtomicI64::new(0))?;
    let refused = thread::Builder::new().spawn(take(0, Unsendable, ran.clone()));
    assert!(matches!(refused, Err(Error::Encoding { .. })));
    assert!(
        thread::spawn(take(0, Unsendable, ran.clone()))
            .join()
            .is_err()
    );
    assert!(thread::map(0..3, |n| take(n, Unsendable, ran.clone())).is_err());
    assert_eq!(ran.load()?, 0);
    Ok(())
}

#[cloud]
fn add(n: i64, sum: Shared<AtomicI64>) -> crucial::Result<()> {
    sum.fetch_add(n).map(drop)
}

fn f09_handles_in_tasks_work() -> Outcome {
    let sum = Shared::new(AtomicI64::new(0))?;
    for result in thread::map(1..=20, |n| add(n, sum.clone()))? {
        result?;
    }
    assert_eq!(sum.load()?, 210);
    Ok(())
}

#[cloud]
fn fan_out(sum: Shared<AtomicI64>) -> crucial::Result<Shared<AtomicI64>> {
    for result in thread::map(1..=3, |n| add(n, sum.clone()))? {
        result?;
    }
    Shared::new(AtomicI64::new(sum.load()?))
}

fn f09_a_thread_spawns_threads_of_the_same_run() -> Outcome {
    let sum = Shared::new(AtomicI64::new(0))?;
    let copy = thread::spawn(fan_out(sum.clone())).join()??;
    assert_eq!((sum.load()?, copy.load()?), (6, 6));
    Ok(())
}

fn f01_names_are_checked() -> Outcome {
    let named = |name: &str| thread::Builder::new().name(name);
    let long = "x".repeat(1000);
    for name in ["", "two\nlines", "nul\0", &long] {
        assert!(matches!(
            named(name).spawn(double(1)),
            Err(Error::Config { .. })
        ));
        assert!(named(name).map([1], double).is_err());
    }
    assert_eq!(named("größe 7").spawn(double(1))?.join()?, 2);
    Ok(())
}

#[cloud]
fn meet(barrier: Shared<Barrier>) -> crucial::Result<u32> {
    barrier.wait()?;
    Ok(std::process::id())
}

fn f10_800_threads_at_the_same_time() -> Outcome {
    let barrier = Shared::new(Barrier::new(800))?;
    let processes = thread::map(0..800, |_| meet(barrier.clone()))?;
    let processes: HashSet<u32> = processes.into_iter().collect::<Result<_, _>>()?;
    assert_eq!(processes.len(), 800);
    Ok(())
}

fn f11_a_detached_thread_runs_on() -> Outcome {
    let barrier = Shared::new(Barrier::new(2))?;
    drop(thread::spawn(wait_for(barrier.clone())));
    barrier.wait()?;
    Ok(())
}

/// A file that says whether the thread ran before.
fn marker(directory: &Path) -> PathBuf {
    directory.join("ran")
}

#[cloud]
fn die_once(directory: PathBuf) -> u32 {
    let first = std::fs::File::create_new(marker(&directory)).is_ok();
    if first {
        eprintln!("about to die");
        std::process::abort();
    }
    7
}

fn f16_a_killed_worker_is_an_error_or_a_retry() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = directory.path().to_owned();
    match thread::spawn(die_once(path.clone())).join() {
        Err(Error::WorkerDied {
            thread,
            reason,
            output,
        }) => {
            assert!(thread.starts_with("die_once"), "{thread}");
            assert!(reason.contains("SIGABRT"), "{reason}");
            assert_eq!(output, ["about to die"]);
        }
        unexpected => panic!("{unexpected:?}"),
    }
    std::fs::remove_file(marker(&path))?;
    let retried = thread::Builder::new().retries(1).spawn(die_once(path))?;
    assert_eq!(retried.join()?, 7);
    Ok(())
}

#[cloud]
fn run_for_ever() {
    loop {
        std::hint::black_box(0);
    }
}

#[cloud]
fn allocate(mb: usize) -> usize {
    let bytes = vec![1u8; mb << 20];
    std::hint::black_box(&bytes).len()
}

fn f17_time_and_memory_limits_are_kept() -> Outcome {
    let limit = Duration::from_millis(300);
    let start = Instant::now();
    let thread = thread::Builder::new().name("endless").time_limit(limit);
    assert_eq!(
        thread.spawn(run_for_ever())?.join(),
        Err(Error::TimeLimit {
            thread: "endless".to_owned(),
            limit
        })
    );
    assert!(start.elapsed() < Duration::from_secs(20));
    let small = thread::Builder::new().name("hungry").memory_mb(100);
    assert_eq!(
        small.clone().spawn(allocate(500))?.join(),
        Err(Error::MemoryLimit {
            thread: "hungry".to_owned(),
            limit_mb: 100
        })
    );
    assert_eq!(small.spawn(allocate(20))?.join()?, 20 << 20);
    Ok(())
}

fn f01_scope_waits_for_its_threads() -> Outcome {
    let sum = Shared::new(AtomicI64::new(0))?;
    thread::scope(|scope| {
        for n in 1..=10 {
            scope.spawn(add(n, sum.clone()));
        }
    })?;
    assert_eq!(sum.load()?, 55);
    let failed = thread::scope(|scope| drop(scope.spawn(fail("panic"))));
    assert!(matches!(failed, Err(Error::Panicked { .. })));
    Ok(())
}

#[cloud]
fn tell_and_wait(processes: Shared<Queue<u32>>, gate: Shared<Latch>) -> crucial::Result<()> {
    processes.push(std::process::id())?;
    gate.wait()
}

/// Ends while its threads wait for what never comes.
fn leave_threads() -> crucial::Result<()> {
    let processes = Shared::new(Queue::default())?;
    let gate = Shared::new(Latch::new(1))?;
    for _ in 0..3 {
        drop(thread::spawn(tell_and_wait(
            processes.clone(),
            gate.clone(),
        )));
    }
    for _ in 0..3 {
        println!("{}", processes.pop()?.unwrap_or_default());
    }
    Ok(())
}

fn f15_the_end_of_a_program_ends_its_own_threads_only() -> Outcome {
    let (processes, gate) = (Shared::new(Queue::default())?, Shared::new(Latch::new(1))?);
    let ours = thread::spawn(tell_and_wait(processes.clone(), gate.clone()));
    let our_worker = processes.pop()?.ok_or("closed")?;
    let output = Program::start("leave-threads", None)?.output()?;
    let theirs: Vec<u32> = output.lines().map(str::parse).collect::<Result<_, _>>()?;
    assert_eq!(theirs.len(), 3);
    let lives = |process: u32| Path::new("/proc").join(process.to_string()).exists();
    // The program waits for its workers to end.
    assert!(!theirs.into_iter().any(lives));
    assert!(lives(our_worker));
    gate.count_down()?;
    ours.join()??;
    Ok(())
}

#[cloud]
fn sum_or_fail(n: i64, sum: Shared<AtomicI64>) -> crucial::Result<i64> {
    match n {
        3 => Err(Error::from("three is refused")),
        4 => panic!("four panics"),
        _ => sum.fetch_add(n).map(|_| n * n),
    }
}

/// The same on each platform: results, errors, panics, limits, cancellation, exactly-once.
fn suite() -> crucial::Result<()> {
    let sum = Shared::new(AtomicI64::new(0))?;
    for n in 1..=5 {
        let thread = thread::Builder::new().name(format!("n-{n}"));
        match thread.spawn(sum_or_fail(n, sum.clone()))?.join() {
            Ok(result) => println!("{result:?}"),
            Err(Error::Panicked { what, message, .. }) => println!("{what}: {message}"),
            Err(other) => println!("{}", other.kind()),
        }
    }
    let limit = thread::Builder::new().time_limit(Duration::from_millis(200));
    let gate = Shared::new(Latch::new(1))?;
    let processes = Shared::new(Queue::default())?;
    let waiting = limit.spawn(tell_and_wait(processes.clone(), gate.clone()))?;
    println!("{}", waiting.join().map_err(|error| error.kind()).is_err());
    let cancelled = thread::spawn(tell_and_wait(processes, gate));
    cancelled.cancel()?;
    println!("{:?}", cancelled.join().map_err(|error| error.kind()));
    let once = thread::Builder::new().exactly_once();
    println!("{:?}", once.spawn(sum_or_fail(6, sum.clone()))?.join()?);
    println!("{}", sum.load()?);
    Ok(())
}

fn f13_one_suite_passes_on_two_platforms() -> Outcome {
    let run = |platform: &str| {
        let mut command = Program::command("suite")?;
        command.env("CRUCIAL_PLATFORM", platform);
        Program::start_command(command)?.output()
    };
    let local = run("local")?;
    let expected = "Ok(1)\nOk(4)\nErr(three is refused)\ncloud thread \"n-4\": four panics\nOk(25)\ntrue\n\
                    Err(Cancelled)\nOk(36)\n14\n";
    assert_eq!(local, expected);
    assert_eq!(run("in-process")?, expected);
    Ok(())
}
