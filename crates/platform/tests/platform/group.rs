//! What workers start, and how it ends.

use std::os::fd::AsFd;

use crucial_platform::{Failure, LocalConfig, Platform};
use libtest_mimic::Trial;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::invocations::{invocation, local, run, start, text};
use crate::rendezvous::{Rendezvous, is_reaped};
use crate::trials;

pub fn trials() -> Vec<Trial> {
    trials![
        what_a_task_starts_ends_with_it,
        what_a_task_detaches_stays,
        what_a_task_starts_ends_with_its_killed_worker,
        a_worker_leads_a_group_that_no_terminal_stops,
        workers_have_the_programs_name,
    ]
}

/// Waits until a process, which need not be a child of this one, has ended.
#[track_caller]
pub fn wait_until_ended(pid: i32) {
    let pid = Pid::from_raw(pid).expect("a process id");
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        // There is no such process any more.
        return;
    };
    let limit = Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    let process = process.as_fd();
    let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit));
    assert_eq!(ended, Ok(1), "process {pid:?} still runs");
}

fn what_a_task_starts_ends_with_it() {
    let platform = local(LocalConfig::default());
    // The second is nobody's child any more.
    let script = "sleep 1000 >/dev/null 2>&1 & echo $!; (sleep 1000 >/dev/null 2>&1 & echo $!)";
    let pids = text(run(&platform, format!("script {script}")));
    let pids: Vec<i32> = pids.lines().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    assert!(pids.iter().all(|pid| is_reaped(*pid)), "{pids:?}");
    // And the worker goes on.
    assert_eq!(text(run(&platform, "echo next")), "next");
}

fn what_a_task_detaches_stays() {
    let platform = local(LocalConfig::default());
    let script = "setsid sh -c 'echo $$; exec sleep 1000 >/dev/null 2>&1' &";
    let pid = text(run(&platform, format!("script {script}")));
    let pid: i32 = pid.trim().parse().unwrap();
    platform.shutdown();
    assert!(!is_reaped(pid));
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    wait_until_ended(pid);
}

fn what_a_task_starts_ends_with_its_killed_worker() {
    let platform = local(LocalConfig::default());
    let rendezvous = Rendezvous::new();
    let started = start(&platform, invocation(rendezvous.payload("start-and-wait")));
    let mut participant = rendezvous.participant();
    let child: i32 = participant.line().parse().unwrap();
    assert!(!is_reaped(child));
    kill_process(Pid::from_raw(participant.pid).unwrap(), Signal::KILL).unwrap();
    let failure = started.wait().unwrap_err();
    assert!(matches!(failure, Failure::WorkerDied { .. }), "{failure:?}");
    wait_until_ended(child);
}

fn a_worker_leads_a_group_that_no_terminal_stops() {
    let platform = local(LocalConfig::default());
    // PID (NAME) STATE PARENT GROUP ..
    let stat = text(run(&platform, "script cat /proc/$PPID/stat"));
    let (pid, rest) = stat.split_once(' ').unwrap();
    let rest: Vec<&str> = rest.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!(rest[2], pid);
    // Its children ignore what would stop them.
    let status = text(run(&platform, "script cat /proc/self/status"));
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = u64::from_str_radix(ignored.unwrap().trim(), 16).unwrap();
    for signal in [Signal::TTIN, Signal::TTOU] {
        assert_ne!(ignored & (1 << (signal.as_raw() - 1)), 0, "{signal:?}");
    }
}

fn workers_have_the_programs_name() {
    let platform = local(LocalConfig::default());
    let name = text(run(&platform, "script cat /proc/$PPID/comm"));
    let own = std::env::args().next().unwrap();
    let own = own.rsplit('/').next().unwrap();
    assert_eq!(name.trim_end(), &own[..own.len().min(15)]);
}
