//! K15 to K17, K23: what a user sees when a thread fails while others wait for it, or when threads wait for a place.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crucial::sync::{AtomicI64, Barrier};
use crucial::{Error, Result, Shared, cloud, thread};
use libtest_mimic::{Failed, Trial};

use crate::Outcome;
use crate::program::Program;
use crate::trials;

pub fn trials() -> Vec<Trial> {
    trials![
        k15_a_failure_is_printed_at_once_and_ends_those_that_wait_for_it,
        k15_others_may_finish_if_they_are_told_to,
        k16_a_panic_in_a_scope_waits_for_its_threads,
        k17_threads_that_queue_behind_a_limit_are_named,
        k23_a_panic_has_its_frames,
    ]
}

/// How the third of four threads fails.
const WAYS: [&str; 3] = ["panics", "dies", "errs"];

#[cloud]
fn party(number: usize, way: &str, barrier: Shared<Barrier>) -> Result<usize> {
    if number == 2 {
        match way {
            "panics" => panic!("the third panics"),
            "dies" => std::process::abort(),
            "errs" => return Err(Error::Other("the third errs".to_owned())),
            _ => {}
        }
    }
    barrier.wait()?;
    Ok(number)
}

/// What the parties of a `map` return is their own affair, so here an error is a panic.
#[cloud]
fn guest(number: usize, way: &str, barrier: Shared<Barrier>) -> usize {
    party(number, way, barrier)
        .run_here()
        .and_then(|number| number)
        .expect("a party")
}

#[cloud]
fn count(done: Shared<AtomicI64>) -> Result<()> {
    // The work of this thread, which takes longer than it takes another to panic and to be heard of: it is to be done all the
    // same, and nothing could tell it that it has been overtaken.
    std::thread::sleep(Duration::from_millis(300));
    done.fetch_add(1)?;
    Ok(())
}

#[cloud]
fn fail_or_count(number: usize, done: Shared<AtomicI64>) -> Result<()> {
    if number == 0 {
        panic!("the first panics");
    }
    count(done).run_here()?
}

/// Programs of these tests.
pub fn program(name: &str) -> Option<Result<()>> {
    let (kind, way) = name.split_once(' ')?;
    Some(match kind {
        "join-all" => join_all(way),
        "map" => map(way),
        "finish" => finish(),
        "scope" => scope(),
        "queue" => join_all("queues"),
        _ => return None,
    })
}

fn join_all(way: &str) -> Result<()> {
    let barrier = Shared::new(Barrier::new(4))?;
    let spawn = |number| {
        let named = thread::Builder::new().name(format!("party-{number}"));
        named.spawn(party(number, way, barrier.clone()))
    };
    let threads = (0..4).map(spawn).collect::<Result<Vec<_>>>()?;
    thread::join_all(threads).map(drop)
}

fn map(way: &str) -> Result<()> {
    let barrier = Shared::new(Barrier::new(4))?;
    let named = thread::Builder::new().name("party");
    named
        .map(0..4, |number| guest(number, way, barrier.clone()))
        .map(drop)
}

fn finish() -> Result<()> {
    let done = Shared::new(AtomicI64::new(0))?;
    let failed = thread::Builder::new()
        .let_others_finish()
        .map(0..3, |number| fail_or_count(number, done.clone()));
    println!("{} done, failed: {}", done.load()?, failed.is_err());
    Ok(())
}

fn scope() -> Result<()> {
    let done = Shared::new(AtomicI64::new(0))?;
    let panicked = std::panic::catch_unwind(|| {
        thread::scope(|scope| {
            scope.spawn(count(done.clone()));
            panic!("on purpose");
        })
    });
    println!("{} done, panicked: {}", done.load()?, panicked.is_err());
    Ok(())
}

fn run(
    name: &str,
    set: impl FnOnce(&mut Command),
) -> std::result::Result<(Output, String), Failed> {
    let mut command = Program::command(name)?;
    command.stdin(Stdio::null());
    set(&mut command);
    let output = command.output()?;
    let said = String::from_utf8(output.stderr.clone())?;
    Ok((output, said))
}

fn k15_a_failure_is_printed_at_once_and_ends_those_that_wait_for_it() -> Outcome {
    for kind in ["join-all", "map"] {
        for way in WAYS {
            let begun = Instant::now();
            let (output, said) = run(&format!("{kind} {way}"), |_| ())?;
            // A limit of time would be 15 minutes.
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{kind} {way}: {:?}",
                begun.elapsed()
            );
            let stdout = String::from_utf8(output.stdout)?;
            match (kind, way) {
                (_, "panics") => {
                    assert!(said.contains("thread 'party-2'"), "{kind} {way}: {said}");
                    assert!(said.contains("the third panics"), "{said}");
                    assert!(stdout.contains("the third panics"), "{stdout}");
                }
                (_, "dies") => {
                    assert!(
                        said.contains("crucial: ") && said.contains("party-2"),
                        "{said}"
                    );
                    assert!(
                        stdout.contains("party-2") && stdout.contains("signal"),
                        "{stdout}"
                    );
                }
                _ => assert!(stdout.contains("the third errs"), "{kind}: {stdout}"),
            }
        }
    }
    Ok(())
}

fn k15_others_may_finish_if_they_are_told_to() -> Outcome {
    let (output, said) = run("finish all", |_| ())?;
    assert_eq!(
        String::from_utf8(output.stdout)?,
        "2 done, failed: true\n",
        "{said}"
    );
    Ok(())
}

fn k16_a_panic_in_a_scope_waits_for_its_threads() -> Outcome {
    let (output, said) = run("scope panics", |_| ())?;
    assert_eq!(
        String::from_utf8(output.stdout)?,
        "1 done, panicked: true\n",
        "{said}"
    );
    Ok(())
}

fn k17_threads_that_queue_behind_a_limit_are_named() -> Outcome {
    let mut command = Program::command("queue up")?;
    command
        .env("CRUCIAL_CONCURRENCY", "2")
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    let mut program = command.spawn()?;
    let lines = BufReader::new(program.stderr.take().expect("it is piped")).lines();
    let mut lines = lines.map_while(std::result::Result::ok);
    let line = lines.find(|line| line.contains("wait for a place"));
    program.kill()?;
    program.wait()?;
    let line = line.ok_or("nothing is said")?;
    for word in [
        "party-0",
        "party-1",
        "party-2",
        "party-3",
        "CRUCIAL_CONCURRENCY",
    ] {
        assert!(line.contains(word), "{line}");
    }
    Ok(())
}

fn k23_a_panic_has_its_frames() -> Outcome {
    let (_, said) = run("map panics", |command| {
        command.env("RUST_BACKTRACE", "1");
    })?;
    assert!(
        said.contains("stack backtrace:") && said.contains("party"),
        "{said}"
    );
    let (_, said) = run("map panics", |command| {
        command.env("RUST_BACKTRACE", "0");
    })?;
    assert!(!said.contains("stack backtrace:"), "{said}");
    Ok(())
}
