//! How workers start and end.

use std::collections::HashSet;
use std::process::Command;
use std::time::{Duration, Instant};

use crucial_platform::{Failure, LocalConfig, Platform};
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};

use crate::invoke::{invocation, local, run, start, text};
use crate::meeting::{Meeting, is_reaped};
use crate::trials;

/// Makes this executable a program with workers, which come to the meeting there.
const PARENT_VARIABLE: &str = "PLATFORM_TEST_PARENT";

pub fn trials() -> Vec<Trial> {
    trials![
        a_killed_worker_is_named,
        an_exit_is_named,
        an_executable_that_ends_at_once,
        an_executable_that_is_missing,
        an_executable_that_does_not_ask,
        variables_are_those_of_lambda,
        shutdown_leaves_no_process,
        dropping_it_ends_the_workers,
        workers_end_with_their_parent,
    ]
}

fn a_killed_worker_is_named() {
    let platform = local(LocalConfig::default());
    let meeting = Meeting::new();
    let killed = start(&platform, invocation(meeting.payload("meet")));
    let guest = meeting.guest();
    let pid = guest.pid;
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    let expected = Failure::WorkerDied {
        reason: "signal 9 (SIGKILL)".to_owned(),
        output: Vec::new(),
    };
    assert_eq!(killed.wait(), Err(expected));
    assert_ne!(text(run(&platform, "pid")), pid.to_string());
}

fn an_exit_is_named() {
    let platform = local(LocalConfig::default());
    let failure = run(&platform, "exit 3").unwrap_err();
    let Failure::WorkerDied { reason, .. } = failure else {
        panic!("{failure:?}");
    };
    assert_eq!(reason, "exit status 3");
}

/// The reasons of so many invocations that can not start.
fn start_failures(config: LocalConfig, count: usize) -> HashSet<String> {
    let platform = local(config);
    let all: Vec<_> = (0..count)
        .map(|_| start(&platform, invocation("pid")))
        .collect();
    let reason = |failure| match failure {
        Err(Failure::Start { reason }) => reason,
        other => panic!("{other:?}"),
    };
    all.into_iter()
        .map(|started| reason(started.wait()))
        .collect()
}

fn an_executable_that_ends_at_once() {
    let begin = Instant::now();
    let config = LocalConfig {
        executable: "/bin/sh".into(),
        args: vec!["-c".into(), "echo no worker >&2; exit 7".into()],
        concurrency_max: 4,
        ..LocalConfig::default()
    };
    let reasons = start_failures(config, 20);
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
    for reason in reasons {
        assert!(reason.contains("exit status 7"), "{reason}");
        assert!(reason.contains("no worker"), "{reason}");
    }
}

fn an_executable_that_is_missing() {
    let config = LocalConfig {
        executable: "/nowhere/program".into(),
        ..LocalConfig::default()
    };
    for reason in start_failures(config, 3) {
        assert!(
            reason.starts_with("/nowhere/program: No such file"),
            "{reason}"
        );
    }
}

fn an_executable_that_does_not_ask() {
    let config = LocalConfig {
        executable: "/bin/sleep".into(),
        args: vec!["1000".into()],
        start_timeout: Duration::from_millis(200),
        ..LocalConfig::default()
    };
    for reason in start_failures(config, 3) {
        assert!(
            reason.contains("did not ask for work within 200ms"),
            "{reason}"
        );
    }
}

fn variables_are_those_of_lambda() {
    let platform = local(LocalConfig {
        env: vec![
            ("OWN".into(), "value".into()),
            ("AWS_LAMBDA_RUNTIME_API".into(), "not.this.one:1".into()),
            ("http_proxy".into(), "http://127.0.0.1:9".into()),
            ("HTTP_PROXY".into(), "http://127.0.0.1:9".into()),
            ("ALL_PROXY".into(), "http://127.0.0.1:9".into()),
        ],
        memory_mb_default: Some(300),
        ..LocalConfig::default()
    });
    let variable = |name: &str| text(run(&platform, format!("variable {name}")));
    assert_eq!(variable("OWN"), "value");
    assert_eq!(variable("CRUCIAL_LOCAL_WORKER"), "1");
    assert_eq!(variable("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"), "300");
    assert_eq!(variable("AWS_LAMBDA_FUNCTION_VERSION"), "$LATEST");
    assert!(!variable("AWS_LAMBDA_FUNCTION_NAME").is_empty());
    assert!(variable("AWS_LAMBDA_RUNTIME_API").starts_with("127.0.0.1:"));
}

fn shutdown_leaves_no_process() {
    let platform = local(LocalConfig {
        concurrency_max: 6,
        ..LocalConfig::default()
    });
    let meeting = Meeting::new();
    let idle: Vec<_> = (0..3)
        .map(|_| start(&platform, invocation(meeting.payload("meet"))))
        .collect();
    let mut pids: HashSet<i32> = HashSet::new();
    for guest in meeting.guests(3) {
        pids.insert(guest.pid);
        guest.release();
    }
    idle.into_iter().for_each(|started| drop(started.wait()));
    let busy: Vec<_> = (0..6)
        .map(|_| start(&platform, invocation(meeting.payload("meet"))))
        .collect();
    let guests = meeting.guests(6);
    pids.extend(guests.iter().map(|guest| guest.pid));
    platform.shutdown();
    assert!(pids.iter().all(|pid| is_reaped(*pid)), "{pids:?}");
    for started in busy {
        assert_eq!(started.wait(), Err(Failure::Shutdown));
    }
}

fn dropping_it_ends_the_workers() {
    let platform = local(LocalConfig::default());
    let pid: i32 = text(run(&platform, "pid")).parse().unwrap();
    drop(platform);
    assert!(is_reaped(pid));
}

fn workers_end_with_their_parent() {
    let meeting = Meeting::new();
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .env(PARENT_VARIABLE, meeting.address())
        .spawn()
        .unwrap();
    // Some are idle when the parent dies, some are busy.
    let guests = meeting.guests(5);
    parent.kill().unwrap();
    guests.into_iter().for_each(|guest| guest.wait_gone());
    parent.wait().unwrap();
}

pub fn is_parent() -> bool {
    std::env::var_os(PARENT_VARIABLE).is_some()
}

/// Has two idle and three busy workers, until it is killed.
pub fn be_parent() -> ! {
    let address = std::env::var(PARENT_VARIABLE).unwrap();
    let platform = local(LocalConfig::default());
    let sized = |word: &str, memory_mb| {
        let mut sized = invocation(format!("{word} {address}"));
        sized.memory_mb = Some(memory_mb);
        start(&platform, sized)
    };
    for memory_mb in [300, 400] {
        sized("hold", memory_mb).wait().unwrap();
    }
    let _busy: Vec<_> = (0..3).map(|_| sized("meet", 500)).collect();
    loop {
        std::thread::park();
    }
}
