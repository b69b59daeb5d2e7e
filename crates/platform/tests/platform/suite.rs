//! Tests that every platform must pass.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use crucial_platform::{Failure, InProcess, LocalConfig, Platform};
use libtest_mimic::Trial;

use crate::handler::Tester;
use crate::invocations::{Outcome, invocation, local, run, start, text};
use crate::rendezvous::Rendezvous;

const CONCURRENCY: usize = 8;

type Test = fn(&dyn Platform);

pub fn trials() -> Vec<Trial> {
    let tests: [(&str, Test); 11] = [
        ("bytes_come_back", bytes_come_back),
        ("any_name_is_accepted", any_name_is_accepted),
        ("errors_come_back", errors_come_back),
        ("a_panic_is_an_error", a_panic_is_an_error),
        (
            "concurrency_reaches_its_limit",
            concurrency_reaches_its_limit,
        ),
        ("the_time_limit_holds", the_time_limit_holds),
        ("the_deadline_is_known", the_deadline_is_known),
        ("an_endless_limit_is_no_limit", an_endless_limit_is_no_limit),
        (
            "too_large_payloads_and_results_are_refused",
            too_large_payloads_and_results_are_refused,
        ),
        (
            "a_panicking_completion_is_caught",
            a_panicking_completion_is_caught,
        ),
        ("shutdown_fails_all", shutdown_fails_all),
    ];
    let alone = tests
        .into_iter()
        .flat_map(|(name, test)| both(name, move |platform: Arc<dyn Platform>| test(&*platform)));
    alone
        .chain(both("completions_may_invoke", completions_may_invoke))
        .chain(both(
            "a_completion_may_shut_down",
            a_completion_may_shut_down,
        ))
        .collect()
}

/// Makes one test for each platform.
fn both(name: &str, test: impl Fn(Arc<dyn Platform>) + Clone + Send + 'static) -> [Trial; 2] {
    let other = test.clone();
    [
        Trial::test(format!("local::{name}"), move || {
            test(Arc::new(local(LocalConfig {
                concurrency_max: CONCURRENCY,
                payload_bytes_max: 4 << 20,
                ..LocalConfig::default()
            })));
            Ok(())
        }),
        Trial::test(format!("in_process::{name}"), move || {
            let time_limit = Duration::from_secs(900);
            let platform = InProcess::new(Arc::new(Tester), CONCURRENCY, time_limit);
            other(Arc::new(platform));
            Ok(())
        }),
    ]
}

fn bytes_come_back(platform: &dyn Platform) {
    for size in [0, 1, 2, 3, 1000, 1 << 20] {
        let bytes: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
        let payload = [b"echo ", &bytes[..]].concat();
        assert_eq!(run(platform, payload), Ok(bytes));
    }
}

fn any_name_is_accepted(platform: &dyn Platform) {
    for name in ["", "a\0b", "two\nlines", "ü"] {
        let mut named = invocation("echo fine");
        named.name = name.to_owned();
        assert_eq!(text(start(platform, named).wait()), "fine");
    }
}

fn errors_come_back(platform: &dyn Platform) {
    let failure = run(platform, "error").unwrap_err();
    let expected = Failure::Function {
        error_type: "Refused".to_owned(),
        message: "it is \"closed\"\non Sundays".to_owned(),
        location: Some("shop.rs:7:9".to_owned()),
    };
    assert_eq!(failure, expected);
}

fn a_panic_is_an_error(platform: &dyn Platform) {
    let failure = run(platform, "panic").unwrap_err();
    let Failure::Function { message, .. } = failure else {
        panic!("{failure:?}");
    };
    assert_eq!(message, "it broke");
    assert_eq!(text(run(platform, "echo still here")), "still here");
}

fn concurrency_reaches_its_limit(platform: &dyn Platform) {
    let rendezvous = Rendezvous::new();
    let payload = rendezvous.payload("wait");
    let all: Vec<_> = (0..3 * CONCURRENCY)
        .map(|_| start(platform, invocation(payload.clone())))
        .collect();
    for _ in 0..3 {
        let participants = rendezvous.participants(CONCURRENCY);
        participants
            .into_iter()
            .for_each(|participant| participant.release());
    }
    for started in all {
        assert_eq!(text(started.wait()), "x");
    }
}

fn the_time_limit_holds(platform: &dyn Platform) {
    let rendezvous = Rendezvous::new();
    let limit = Duration::from_millis(300);
    let mut late = invocation(rendezvous.payload("wait"));
    late.time_limit = Some(limit);
    let late = start(platform, late);
    let participant = rendezvous.participant();
    assert_eq!(late.wait(), Err(Failure::TimeLimit { limit }));
    assert_eq!(text(run(platform, "echo the next")), "the next");
    drop(participant);
}

fn the_deadline_is_known(platform: &dyn Platform) {
    let mut asked = invocation("deadline");
    asked.time_limit = Some(Duration::from_secs(5000));
    let left: u64 = text(start(platform, asked).wait()).parse().unwrap();
    assert!((4900..=5000).contains(&left), "{left} s");
}

fn an_endless_limit_is_no_limit(platform: &dyn Platform) {
    let mut endless = invocation("echo in time");
    endless.time_limit = Some(Duration::MAX);
    assert_eq!(text(start(platform, endless).wait()), "in time");
}

fn too_large_payloads_and_results_are_refused(platform: &dyn Platform) {
    let max = platform.payload_bytes_max();
    let size = max + 1;
    let refused = run(platform, vec![0; size]);
    assert_eq!(refused, Err(Failure::PayloadTooLarge { size, max }));
    let refused = run(platform, format!("large {size}"));
    assert_eq!(refused, Err(Failure::ResultTooLarge { max }));
    assert_eq!(run(platform, format!("large {max}")).unwrap().len(), max);
}

fn a_panicking_completion_is_caught(platform: &dyn Platform) {
    for payload in ["echo it", "error", "unknown"] {
        platform.invoke(invocation(payload), Box::new(|_| panic!("on purpose")));
    }
    assert_eq!(text(run(platform, "echo the next")), "the next");
}

/// Each completion starts the next invocation: after a result, after an error, and after a refused payload.
fn completions_may_invoke(platform: Arc<dyn Platform>) {
    fn next(platform: Arc<dyn Platform>, left: usize, seen: mpsc::Sender<Outcome>) {
        let payload = match left % 3 {
            0 => b"echo it".to_vec(),
            1 => b"error".to_vec(),
            _ => vec![0; platform.payload_bytes_max() + 1],
        };
        let again = platform.clone();
        let done = move |outcome| {
            seen.send(outcome).expect("the test counts them");
            if left > 0 {
                next(again, left - 1, seen);
            }
        };
        platform.invoke(invocation(payload), Box::new(done));
    }
    let (sender, seen) = mpsc::channel();
    for _ in 0..2 * CONCURRENCY {
        next(platform.clone(), 29, sender.clone());
    }
    drop((platform, sender));
    let outcomes: Vec<Outcome> = seen.into_iter().collect();
    assert_eq!(outcomes.len(), 2 * CONCURRENCY * 30);
    let results = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(results, 2 * CONCURRENCY * 10);
}

/// A shutdown from within a completion must not wait for the completion's own thread.
fn a_completion_may_shut_down(platform: Arc<dyn Platform>) {
    let rendezvous = Rendezvous::new();
    let busy = start(&*platform, invocation(rendezvous.payload("wait")));
    let participant = rendezvous.participant();
    let (sender, outcome) = mpsc::channel();
    let own = platform.clone();
    let done = move |result| {
        own.shutdown();
        drop((own, sender.send(result)));
    };
    platform.invoke(invocation("echo last"), Box::new(done));
    assert_eq!(
        text(outcome.recv().expect("the invocation completes")),
        "last"
    );
    assert_eq!(busy.wait(), Err(Failure::Shutdown));
    drop(participant);
}

fn shutdown_fails_all(platform: &dyn Platform) {
    let rendezvous = Rendezvous::new();
    let payload = rendezvous.payload("wait");
    let all: Vec<_> = (0..2 * CONCURRENCY)
        .map(|_| start(platform, invocation(payload.clone())))
        .collect();
    let participants = rendezvous.participants(CONCURRENCY);
    assert!(all.iter().all(|started| started.is_waiting()));
    platform.shutdown();
    for started in all {
        assert_eq!(started.wait(), Err(Failure::Shutdown));
    }
    assert_eq!(run(platform, "pid"), Err(Failure::Shutdown));
    platform.shutdown();
    drop(participants);
}
