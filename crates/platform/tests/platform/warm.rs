//! Workers that are kept for the next invocation.

use std::collections::HashSet;
use std::time::Duration;

use crucial_platform::{LocalConfig, Platform};
use libtest_mimic::Trial;

use crate::invoke::{invocation, local, run, start, text};
use crate::meeting::{Meeting, is_reaped};
use crate::trials;

pub fn trials() -> Vec<Trial> {
    trials![
        a_worker_is_used_again,
        a_worker_of_another_size_is_not,
        sizes_take_turns,
        a_queue_is_worked_off_by_a_few,
        two_hundred_at_once,
        an_idle_worker_is_ended,
    ]
}

fn a_worker_is_used_again() {
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

fn a_worker_of_another_size_is_not() {
    let platform = local(LocalConfig::default());
    let (small, large) = (pid_with(&platform, 256), pid_with(&platform, 512));
    assert_ne!(small, large);
    assert_eq!(pid_with(&platform, 256), small);
    assert_eq!(pid_with(&platform, 512), large);
}

fn sizes_take_turns() {
    let platform = local(LocalConfig {
        concurrency_max: 1,
        ..LocalConfig::default()
    });
    // An idle one makes room.
    for memory_mb in [256, 512, 256] {
        pid_with(&platform, memory_mb);
    }
    // One that waits for another size gets its turn before those that came later.
    let meeting = Meeting::new();
    let mut large = invocation(meeting.payload("meet"));
    large.memory_mb = Some(512);
    let mut small = large.clone();
    small.memory_mb = Some(256);
    let before = start(&platform, small.clone());
    let guest = meeting.guest();
    let between = start(&platform, large);
    let after = start(&platform, small);
    guest.release();
    before.wait().unwrap();
    let guest = meeting.guest();
    assert!(after.is_waiting());
    guest.release();
    between.wait().unwrap();
    meeting.guest().release();
    after.wait().unwrap();
}

fn a_queue_is_worked_off_by_a_few() {
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
    let meeting = Meeting::new();
    let payload = meeting.payload("meet");
    let all: Vec<_> = (0..200)
        .map(|_| start(&platform, invocation(payload.clone())))
        .collect();
    let guests = meeting.guests(200);
    let pids: HashSet<i32> = guests.iter().map(|guest| guest.pid).collect();
    assert_eq!(pids.len(), 200);
    guests.into_iter().for_each(|guest| guest.release());
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
    let meeting = Meeting::new();
    run(&platform, meeting.payload("hold")).unwrap();
    meeting.guest().wait_gone();
    assert_eq!(text(run(&platform, "echo the next")), "the next");
}
