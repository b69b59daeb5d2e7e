//! Tests of workers that are kept for the next invocation.

use std::collections::HashSet;
use std::time::Duration;

use crucial_platform::{LocalConfig, Platform};
use libtest_mimic::Trial;

use crate::invocations::{invocation, local, run, start, text};
use crate::rendezvous::{Rendezvous, is_reaped};
use crate::trials;

pub fn trials() -> Vec<Trial> {
    trials![
        a_worker_is_reused,
        a_worker_with_another_memory_limit_is_not_reused,
        memory_limits_take_turns,
        a_queue_is_served_by_few_workers,
        two_hundred_at_once,
        an_idle_worker_is_ended,
    ]
}

fn a_worker_is_reused() {
    let platform = local(LocalConfig::default());
    let first = text(run(&platform, "pid"));
    for _ in 0..20 {
        assert_eq!(text(run(&platform, "pid")), first);
    }
}

fn pid_with(platform: &dyn Platform, memory_mb: u32) -> String {
    let mut sized = invocation("pid");
    sized.memory_mb = Some(memory_mb);
    text(start(platform, sized).wait())
}

fn a_worker_with_another_memory_limit_is_not_reused() {
    let platform = local(LocalConfig::default());
    let (small, large) = (pid_with(&platform, 256), pid_with(&platform, 512));
    assert_ne!(small, large);
    assert_eq!(pid_with(&platform, 256), small);
    assert_eq!(pid_with(&platform, 512), large);
}

fn memory_limits_take_turns() {
    let platform = local(LocalConfig {
        concurrency_max: 1,
        ..LocalConfig::default()
    });
    // An idle worker with another memory limit is ended.
    for memory_mb in [256, 512, 256] {
        pid_with(&platform, memory_mb);
    }
    // An invocation with another memory limit runs before later invocations.
    let rendezvous = Rendezvous::new();
    let mut large = invocation(rendezvous.payload("wait"));
    large.memory_mb = Some(512);
    let mut small = large.clone();
    small.memory_mb = Some(256);
    let before = start(&platform, small.clone());
    let participant = rendezvous.participant();
    let between = start(&platform, large);
    let after = start(&platform, small);
    participant.release();
    before.wait().unwrap();
    let participant = rendezvous.participant();
    assert!(after.is_waiting());
    participant.release();
    between.wait().unwrap();
    rendezvous.participant().release();
    after.wait().unwrap();
}

fn a_queue_is_served_by_few_workers() {
    let platform = local(LocalConfig {
        concurrency_max: 3,
        ..LocalConfig::default()
    });
    let all: Vec<_> = (0..100)
        .map(|_| start(&platform, invocation("pid")))
        .collect();
    let pids: HashSet<String> = all
        .into_iter()
        .map(|started| text(started.wait()))
        .collect();
    assert!(pids.len() <= 3, "{pids:?}");
}

fn two_hundred_at_once() {
    let platform = local(LocalConfig::default());
    let rendezvous = Rendezvous::new();
    let payload = rendezvous.payload("wait");
    let all: Vec<_> = (0..200)
        .map(|_| start(&platform, invocation(payload.clone())))
        .collect();
    let participants = rendezvous.participants(200);
    let pids: HashSet<i32> = participants
        .iter()
        .map(|participant| participant.pid)
        .collect();
    assert_eq!(pids.len(), 200);
    participants
        .into_iter()
        .for_each(|participant| participant.release());
    for started in all {
        assert_eq!(text(started.wait()), "x");
    }
    platform.shutdown();
    assert!(pids.into_iter().all(is_reaped));
}

fn an_idle_worker_is_ended() {
    let platform = local(LocalConfig {
        warm_idle: Duration::from_millis(20),
        ..LocalConfig::default()
    });
    let rendezvous = Rendezvous::new();
    run(&platform, rendezvous.payload("connect")).unwrap();
    rendezvous.participant().wait_until_ended();
    assert_eq!(text(run(&platform, "echo the next")), "the next");
}
