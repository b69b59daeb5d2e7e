//! How workers start and end.

use std::collections::HashSet;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crucial_platform::{Failure, LocalConfig, Platform};
use libtest_mimic::Trial;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::hostile::{request, send};
use crate::invoke::{invocation, local, run, start, text};
use crate::meeting::{Meeting, is_reaped};
use crate::output::Kept;
use crate::trials;

/// Makes this executable a program with workers, which come to the meeting there.
const PARENT_VARIABLE: &str = "PLATFORM_TEST_PARENT";

/// Makes workers refuse to start.
const REFUSE_VARIABLE: &str = "PLATFORM_TEST_REFUSE";

pub fn trials() -> Vec<Trial> {
    trials![
        a_killed_worker_is_named,
        a_worker_that_died_idle_gets_no_work,
        a_worker_that_does_not_come_back_is_replaced,
        a_worker_can_say_why_it_does_not_start,
        an_exit_is_named,
        an_executable_that_ends_at_once,
        an_executable_that_is_missing,
        an_executable_that_does_not_ask,
        variables_are_those_of_lambda,
        what_a_worker_starts_has_not_its_variables,
        shutdown_leaves_no_process,
        dropping_it_ends_the_workers,
        workers_end_with_their_parent,
    ]
}

fn a_killed_worker_is_named() {
    let platform = local(LocalConfig::default());
    let meeting = Meeting::new();
    let killed = start(&platform, invocation(meeting.payload("print-and-meet")));
    // It stays at the meeting as long as we do.
    let guest = meeting.guest();
    let pid = guest.pid;
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    let expected = Failure::WorkerDied {
        reason: "signal 9 (SIGKILL)".to_owned(),
        output: vec!["a line".to_owned(), "and half a".to_owned()],
    };
    assert_eq!(killed.wait().map_err(in_order), Err(expected));
    assert_ne!(text(run(&platform, "pid")), pid.to_string());
}

/// The streams have no order between them.
fn in_order(mut failure: Failure) -> Failure {
    if let Failure::WorkerDied { output, .. } = &mut failure {
        output.sort();
    }
    failure
}

fn a_worker_that_died_idle_gets_no_work() {
    let platform = local(LocalConfig::default());
    for _ in 0..50 {
        let meeting = Meeting::new();
        run(&platform, meeting.payload("hold")).unwrap();
        let pid = Pid::from_raw(meeting.guest().pid).unwrap();
        // Readable when the process has ended, whether its parent knows or not.
        let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        poll(&mut [PollFd::new(&process, PollFlags::IN)], None).unwrap();
        assert_eq!(text(run(&platform, "echo the next")), "the next");
    }
}

/// Its invocation is over, but it does not ask for another.
fn a_worker_that_does_not_come_back_is_replaced() {
    let platform = local(LocalConfig {
        concurrency_max: 1,
        start_timeout: Duration::from_millis(200),
        ..LocalConfig::default()
    });
    let meeting = Meeting::new();
    let stuck = start(&platform, invocation(meeting.payload("meet")));
    let guest = meeting.guest();
    guest.answer_for_it();
    assert_eq!(text(stuck.wait()), "for it");
    assert_eq!(text(run(&platform, "echo the next")), "the next");
    guest.wait_gone();
}

fn a_worker_can_say_why_it_does_not_start() {
    let config = LocalConfig {
        env: vec![(REFUSE_VARIABLE.into(), "1".into())],
        ..LocalConfig::default()
    };
    let reasons = start_failures(config, 2);
    assert_eq!(reasons, HashSet::from(["Config: no key".to_owned()]));
}

/// Tells the platform that this worker can not start.
pub fn refuse() {
    if std::env::var_os(REFUSE_VARIABLE).is_none() {
        return;
    }
    let api = std::env::var("AWS_LAMBDA_RUNTIME_API").unwrap();
    let (host, worker) = api.split_once('/').unwrap();
    let path = format!("/{worker}/2018-06-01/runtime/init/error");
    let error = r#"{"errorType":"Config","errorMessage":"no key"}"#;
    assert_eq!(send(host, &request("POST", &path, error)), Some(202));
    std::process::exit(1);
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
    let lines = Arc::new(Kept::default());
    let config = LocalConfig {
        output: lines.clone(),
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
    // One process for each invocation, and no more.
    assert_eq!(lines.count(), 20);
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

fn what_a_worker_starts_has_not_its_variables() {
    let platform = local(LocalConfig {
        env: vec![("OWN".into(), "value".into())],
        ..LocalConfig::default()
    });
    let said = text(run(&platform, "script env"));
    let ours = |line: &&str| {
        line.starts_with("AWS_LAMBDA_RUNTIME_API") || line.starts_with("CRUCIAL_LOCAL")
    };
    assert_eq!(said.lines().find(ours), None);
    assert!(said.lines().any(|line| line == "OWN=value"), "{said}");
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
    let begin = Instant::now();
    parent.kill().unwrap();
    guests.into_iter().for_each(|guest| guest.wait_gone());
    assert!(
        begin.elapsed() < Duration::from_secs(1),
        "{:?}",
        begin.elapsed()
    );
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
