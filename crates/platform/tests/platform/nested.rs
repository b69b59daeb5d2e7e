//! Invocations by workers.

use std::sync::mpsc;
use std::time::Duration;

use crucial_platform::LocalConfig;
use crucial_platform::worker::{self, FunctionError};
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};

use crate::invocations::{invocation, local, run, start, text};
use crate::rendezvous::Rendezvous;
use crate::trials;

pub fn trials() -> Vec<Trial> {
    trials![
        a_worker_invokes_beside_itself,
        failures_come_to_the_worker,
        limits_count_what_workers_invoke,
        what_a_dead_worker_has_invoked_is_cancelled,
        a_worker_cancels_what_it_has_invoked,
        the_platform_of_no_worker,
    ]
}

/// Runs a payload several times at once (`COUNT PAYLOAD`), in workers beside this one, and gives a line for each outcome.
pub fn invoke(argument: &str) -> Result<Vec<u8>, FunctionError> {
    let (count, payload) = argument.split_once(' ').expect("a count and a payload");
    let platform = worker::platform().expect("this is a local worker");
    let count: usize = count.parse().expect("a count");
    let started: Vec<_> = (0..count)
        .map(|_| start(&*platform, invocation(payload)))
        .collect();
    let lines = started.into_iter().map(|started| match started.wait() {
        Ok(result) => format!("{}\n", String::from_utf8_lossy(&result).trim_end()),
        Err(failure) => format!("{failure}\n"),
    });
    Ok(lines.collect::<String>().into_bytes())
}

/// Starts a payload in another worker, cancels it when it has said `started`, and gives its outcome.
pub fn invoke_and_cancel(address: &str) -> Result<Vec<u8>, FunctionError> {
    let platform = worker::platform().expect("this is a local worker");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let own = listener.local_addr().expect("it is bound");
    let invocation = invocation(format!("wait {own}"));
    let id = invocation.id;
    let (sender, receiver) = mpsc::channel();
    platform.invoke(
        invocation,
        Box::new(move |result| sender.send(result).unwrap()),
    );
    let _connection = listener.accept().expect("it connects");
    platform.cancel(id);
    let outcome = receiver.recv().expect("an outcome");
    Ok(format!("{outcome:?} {address}").into_bytes())
}

fn a_worker_invokes_beside_itself() {
    let platform = local(LocalConfig::default());
    // Each is a child of this process, and none is the worker that has started it.
    let parents = text(run(&platform, "invoke 3 script ps -o ppid= -p $PPID"));
    let own = std::process::id().to_string();
    let parents: Vec<&str> = parents.lines().map(str::trim).collect();
    assert_eq!(parents, [&own[..]; 3]);
    // Of any depth.
    assert_eq!(
        text(run(&platform, "invoke 2 invoke 1 echo deep")),
        "deep\ndeep\n"
    );
}

fn failures_come_to_the_worker() {
    let platform = local(LocalConfig::default());
    let failed = text(run(&platform, "invoke 1 error"));
    assert!(failed.starts_with("Refused: it is \"closed\""), "{failed}");
    let died = text(run(&platform, "invoke 1 exit 3"));
    assert!(died.contains("exit status 3"), "{died}");
    // With its own memory limit, which the worker that has started it does not share.
    let mut small = invocation("invoke 1 allocate 200");
    small.memory_mb = Some(100);
    let outcome = start(&platform, small).wait();
    assert_eq!(text(outcome), format!("{}\n", 200_u64 << 20));
}

fn limits_count_what_workers_invoke() {
    let platform = local(LocalConfig {
        concurrency_max: 3,
        ..LocalConfig::default()
    });
    let rendezvous = Rendezvous::new();
    let payload = format!("invoke 4 wait {}", rendezvous.address());
    let started = start(&platform, invocation(payload));
    let mut running = rendezvous.participants(2);
    // What does not happen shows only by time: a worker starts in some milliseconds.
    std::thread::sleep(Duration::from_millis(500));
    assert!(rendezvous.is_deserted());
    for _ in 0..2 {
        running.pop().unwrap().release();
        running.push(rendezvous.participant());
    }
    running
        .into_iter()
        .for_each(|participant| participant.release());
    assert_eq!(text(started.wait()), "x\n".repeat(4));
}

fn what_a_dead_worker_has_invoked_is_cancelled() {
    let platform = local(LocalConfig::default());
    let rendezvous = Rendezvous::new();
    let outer = Rendezvous::new();
    let payload = format!(
        "connect-and-invoke {} wait {}",
        outer.address(),
        rendezvous.address()
    );
    let started = start(&platform, invocation(payload));
    let worker = outer.participant();
    let inner = rendezvous.participant();
    kill_process(Pid::from_raw(worker.pid).unwrap(), Signal::KILL).unwrap();
    assert!(started.wait().is_err());
    inner.wait_until_ended();
}

fn a_worker_cancels_what_it_has_invoked() {
    let platform = local(LocalConfig::default());
    assert_eq!(
        text(run(&platform, "invoke-and-cancel now")),
        "Err(Cancelled) now"
    );
}

fn the_platform_of_no_worker() {
    assert!(worker::platform().is_none());
}
