//! The limits of time and memory.

use std::sync::Arc;
use std::time::Duration;

use crucial_platform::{Failure, Invocation, LocalConfig};
use libtest_mimic::Trial;

use crate::invocations::{Outcome, invocation, local, run, start, text};
use crate::output::DiscardingSink;
use crate::rendezvous::{Rendezvous, is_reaped};
use crate::trials;

pub fn trials() -> Vec<Trial> {
    trials![
        a_worker_over_its_time_limit_is_killed,
        an_allocation_over_the_limit_fails,
        resident_memory_over_the_limit_fails,
        memory_may_be_unlimited,
    ]
}

fn a_worker_over_its_time_limit_is_killed() {
    let limit = Duration::from_millis(200);
    let platform = local(LocalConfig {
        time_limit_default: limit,
        ..LocalConfig::default()
    });
    let rendezvous = Rendezvous::new();
    let late = start(&platform, invocation(rendezvous.payload("wait")));
    let participant = rendezvous.participant();
    assert_eq!(late.wait(), Err(Failure::TimeLimit { limit }));
    assert!(is_reaped(participant.pid));
}

fn with_memory(payload: &str, memory_mb: u32) -> Invocation {
    let mut sized = invocation(payload);
    sized.memory_mb = Some(memory_mb);
    sized
}

#[track_caller]
fn assert_memory_limit(outcome: Outcome, expected_mb: u32) {
    match outcome {
        Err(Failure::MemoryLimit { limit_mb, .. }) => assert_eq!(limit_mb, expected_mb),
        other => panic!("{other:?}"),
    }
}

fn an_allocation_over_the_limit_fails() {
    // With a backtrace, the message that the platform looks for is not the last line.
    for backtrace in ["0", "1"] {
        let platform = local(LocalConfig {
            env: vec![("RUST_BACKTRACE".into(), backtrace.into())],
            output: Arc::new(DiscardingSink),
            ..LocalConfig::default()
        });
        let outcome = start(&platform, with_memory("allocate 200", 100)).wait();
        assert_memory_limit(outcome, 100);
        let outcome = start(&platform, with_memory("allocate 20", 100)).wait();
        assert_eq!(outcome.map(|result| result.len()), Ok(20 << 20));
    }
}

/// The main thread's stack is not part of the data segment, so that the worker's own limit does not cover it.
fn resident_memory_over_the_limit_fails() {
    let platform = local(LocalConfig::default());
    assert_eq!(
        text(start(&platform, with_memory("echo small", 10)).wait()),
        "small"
    );
    let outcome = start(&platform, with_memory("touch-stack 110", 10)).wait();
    assert_memory_limit(outcome, 10);
}

fn memory_may_be_unlimited() {
    let platform = local(LocalConfig {
        memory_mb_default: None,
        ..LocalConfig::default()
    });
    assert_eq!(
        text(run(&platform, "variable AWS_LAMBDA_FUNCTION_MEMORY_SIZE")),
        ""
    );
    assert_eq!(
        run(&platform, "allocate 30").map(|result| result.len()),
        Ok(30 << 20)
    );
}
