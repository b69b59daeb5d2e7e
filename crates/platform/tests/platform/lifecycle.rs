//! How workers start and end.

use std::collections::HashSet;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crucial_platform::{Failure, LocalConfig, Platform};
use libtest_mimic::Trial;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::group::wait_until_ended;
use crate::hostile::{request, send};
use crate::invocations::{invocation, local, run, start, text};
use crate::output::RecordingSink;
use crate::rendezvous::{Rendezvous, is_reaped};
use crate::trials;

/// Makes this executable a program whose workers connect to the rendezvous at the variable's address.
const PARENT_VARIABLE: &str = "PLATFORM_TEST_PARENT";

/// Makes workers refuse to start.
const REFUSE_VARIABLE: &str = "PLATFORM_TEST_REFUSE";

pub fn trials() -> Vec<Trial> {
    trials![
        a_killed_worker_is_reported,
        a_worker_that_died_idle_gets_no_event,
        a_worker_that_does_not_return_is_replaced,
        a_worker_can_report_why_it_does_not_start,
        an_exit_status_is_reported,
        an_executable_that_ends_at_once_is_reported,
        a_missing_executable_is_reported,
        an_executable_that_sends_no_request_is_reported,
        variables_are_those_of_lambda,
        children_of_a_worker_do_not_inherit_its_variables,
        shutdown_leaves_no_process,
        dropping_the_platform_ends_the_workers,
        workers_end_with_their_parent,
        a_worker_that_finds_no_platform_says_so,
    ]
}

fn a_killed_worker_is_reported() {
    let platform = local(LocalConfig::default());
    let rendezvous = Rendezvous::new();
    let killed = start(&platform, invocation(rendezvous.payload("print-and-wait")));
    // The worker waits at the rendezvous until it is killed.
    let participant = rendezvous.participant();
    let pid = participant.pid;
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    let expected = Failure::WorkerDied {
        reason: "signal 9 (SIGKILL)".to_owned(),
        output: vec!["a line".to_owned(), "and half a".to_owned()],
    };
    assert_eq!(killed.wait().map_err(sorted_output), Err(expected));
    assert_ne!(text(run(&platform, "pid")), pid.to_string());
}

/// Sorts the lines of both streams, whose relative order is not defined.
fn sorted_output(mut failure: Failure) -> Failure {
    if let Failure::WorkerDied { output, .. } = &mut failure {
        output.sort();
    }
    failure
}

fn a_worker_that_died_idle_gets_no_event() {
    let platform = local(LocalConfig::default());
    for _ in 0..50 {
        let rendezvous = Rendezvous::new();
        run(&platform, rendezvous.payload("connect")).unwrap();
        let pid = Pid::from_raw(rendezvous.participant().pid).unwrap();
        // A pidfd becomes readable when the process has ended, even before the parent has noticed.
        let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        poll(&mut [PollFd::new(&process, PollFlags::IN)], None).unwrap();
        assert_eq!(text(run(&platform, "echo the next")), "the next");
    }
}

/// The worker's invocation has ended, but the worker does not request another event.
fn a_worker_that_does_not_return_is_replaced() {
    let platform = local(LocalConfig {
        concurrency_max: 1,
        start_timeout: Duration::from_millis(200),
        ..LocalConfig::default()
    });
    let rendezvous = Rendezvous::new();
    let stuck = start(&platform, invocation(rendezvous.payload("wait")));
    let participant = rendezvous.participant();
    participant.respond_in_its_place();
    assert_eq!(text(stuck.wait()), "for it");
    assert_eq!(text(run(&platform, "echo the next")), "the next");
    participant.wait_until_ended();
}

fn a_worker_can_report_why_it_does_not_start() {
    let config = LocalConfig {
        env: vec![(REFUSE_VARIABLE.into(), "1".into())],
        ..LocalConfig::default()
    };
    let reasons = start_failures(config, 2);
    assert_eq!(reasons, HashSet::from(["Config: no key".to_owned()]));
}

/// Reports to the platform that this worker cannot start, if the variable is set.
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

fn an_exit_status_is_reported() {
    let platform = local(LocalConfig::default());
    let failure = run(&platform, "exit 3").unwrap_err();
    let Failure::WorkerDied { reason, .. } = failure else {
        panic!("{failure:?}");
    };
    assert_eq!(reason, "exit status 3");
}

/// The reasons for which `count` invocations fail to start.
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

fn an_executable_that_ends_at_once_is_reported() {
    let begin = Instant::now();
    let lines = Arc::new(RecordingSink::default());
    let config = LocalConfig {
        output: lines.clone(),
        executable: Some("/bin/sh".into()),
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

fn a_missing_executable_is_reported() {
    let config = LocalConfig {
        executable: Some("/nowhere/program".into()),
        ..LocalConfig::default()
    };
    for reason in start_failures(config, 3) {
        assert!(
            reason.starts_with("/nowhere/program: No such file"),
            "{reason}"
        );
    }
}

fn an_executable_that_sends_no_request_is_reported() {
    let config = LocalConfig {
        executable: Some("/bin/sleep".into()),
        args: vec!["1000".into()],
        start_timeout: Duration::from_millis(200),
        ..LocalConfig::default()
    };
    for reason in start_failures(config, 3) {
        assert!(reason.contains("sent no request within 200ms"), "{reason}");
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

fn children_of_a_worker_do_not_inherit_its_variables() {
    let platform = local(LocalConfig {
        env: vec![("OWN".into(), "value".into())],
        ..LocalConfig::default()
    });
    let environment = text(run(&platform, "script env"));
    let is_platform_variable = |line: &&str| {
        line.starts_with("AWS_LAMBDA_RUNTIME_API") || line.starts_with("CRUCIAL_LOCAL")
    };
    assert_eq!(environment.lines().find(is_platform_variable), None);
    assert!(
        environment.lines().any(|line| line == "OWN=value"),
        "{environment}"
    );
}

fn shutdown_leaves_no_process() {
    let platform = local(LocalConfig {
        concurrency_max: 6,
        ..LocalConfig::default()
    });
    let rendezvous = Rendezvous::new();
    let idle: Vec<_> = (0..3)
        .map(|_| start(&platform, invocation(rendezvous.payload("wait"))))
        .collect();
    let mut pids: HashSet<i32> = HashSet::new();
    for participant in rendezvous.participants(3) {
        pids.insert(participant.pid);
        participant.release();
    }
    idle.into_iter().for_each(|started| drop(started.wait()));
    let busy: Vec<_> = (0..6)
        .map(|_| start(&platform, invocation(rendezvous.payload("wait"))))
        .collect();
    let participants = rendezvous.participants(6);
    pids.extend(participants.iter().map(|participant| participant.pid));
    platform.shutdown();
    assert!(pids.iter().all(|pid| is_reaped(*pid)), "{pids:?}");
    for started in busy {
        assert_eq!(started.wait(), Err(Failure::Shutdown));
    }
}

fn dropping_the_platform_ends_the_workers() {
    let platform = local(LocalConfig::default());
    let pid: i32 = text(run(&platform, "pid")).parse().unwrap();
    drop(platform);
    assert!(is_reaped(pid));
}

fn workers_end_with_their_parent() {
    let rendezvous = Rendezvous::new();
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .env(PARENT_VARIABLE, rendezvous.address())
        .spawn()
        .unwrap();
    // When the parent dies, some workers are idle and some are busy.
    let mut participants = rendezvous.participants(5);
    // The busy ones came last, each with a child.
    let busy = participants.iter_mut().skip(2);
    let children: Vec<i32> = busy.map(|busy| busy.line().parse().unwrap()).collect();
    let begin = Instant::now();
    parent.kill().unwrap();
    participants
        .into_iter()
        .for_each(|participant| participant.wait_until_ended());
    children.into_iter().for_each(wait_until_ended);
    assert!(
        begin.elapsed() < Duration::from_secs(1),
        "{:?}",
        begin.elapsed()
    );
    parent.wait().unwrap();
}

fn a_worker_that_finds_no_platform_says_so() {
    let output = Command::new(std::env::current_exe().unwrap())
        .env("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("cannot reach its platform (AWS_LAMBDA_RUNTIME_API=127.0.0.1:1)"),
        "{said}"
    );
}

pub fn is_parent() -> bool {
    std::env::var_os(PARENT_VARIABLE).is_some()
}

/// Runs two idle and three busy workers until this process is killed.
pub fn run_parent() -> ! {
    let address = std::env::var(PARENT_VARIABLE).unwrap();
    let platform = local(LocalConfig::default());
    let sized = |word: &str, memory_mb| {
        let mut sized = invocation(format!("{word} {address}"));
        sized.memory_mb = Some(memory_mb);
        start(&platform, sized)
    };
    for memory_mb in [300, 400] {
        sized("connect", memory_mb).wait().unwrap();
    }
    let _busy: Vec<_> = (0..3).map(|_| sized("start-and-wait", 500)).collect();
    loop {
        std::thread::park();
    }
}
