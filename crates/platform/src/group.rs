//! A worker and what its tasks start: one process group, which ends as one.
//!
//! A worker leads a group. An interrupt from the keyboard is not for it, and a child of a task that reads the terminal gets
//! an error and is not stopped. What a task starts is in the group and ends with the task ([`end_children`]), with the
//! worker (its platform kills the group) and with the program ([`end_with_parent`]). A process that has made itself a group
//! or a session of its own was detached on purpose, and stays.
//!
//! (A session of its own for each worker would have no terminal at all, but Linux gives each session the same share of the
//! processors: a hundred workers would take a hundred times what the rest of the user's programs get.)
//!
//! The module has `unsafe` code: a handler of signals may only do what is safe at any time, and a descriptor that is watched
//! must stay open.

#![allow(unsafe_code)]

use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use tokio::io::unix::AsyncFd;

/// The signal by which the system tells a worker that its platform's process has died. Linux itself never sends it, and
/// hardly a program knows it.
const PARENT_DIED: Signal = Signal::STKFLT;

/// Waits until a child of this process has ended, and leaves it to be collected.
pub(crate) async fn ended(child: Pid) -> io::Result<()> {
    let Ok(process) = rustix::process::pidfd_open(child, PidfdFlags::NONBLOCK) else {
        // An older system: a thread waits.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let wait = move || rustix::process::waitid(WaitId::Pid(child), options);
        tokio::task::spawn_blocking(wait).await??;
        return Ok(());
    };
    // SAFETY: the descriptor belongs to the value that watches it, and is closed with it.
    let process = unsafe { AsyncFd::register(process) }.map_err(io::Error::from)?;
    drop(process.readable().await?);
    Ok(())
}

/// How often a task's children are looked for: those that are born meanwhile die the next time.
const ROUNDS_MAX: usize = 1000;

/// Makes this process the leader of a group, which no terminal stops. What its children leave behind becomes its own.
pub(crate) fn lead() {
    // Fails for one that leads a session, and so a group, already.
    let _ = rustix::process::setpgid(None, None);
    // Also that by which the parent's death is told.
    crucial_local::signals::unblock();
    for of_terminals in [libc::SIGTTIN, libc::SIGTTOU] {
        // SAFETY: no handler, and no other thread is there yet that could set one.
        unsafe { libc::signal(of_terminals, libc::SIG_IGN) };
    }
    // Best effort: without it the children's children are not found.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// Makes this process and its group end when its parent, `parent`, ends.
pub(crate) fn end_with_parent(parent: Option<i32>) {
    let end = || {
        // One system call, which is safe in a handler. The group is the own one since `lead`.
        let _ = rustix::process::kill_current_process_group(Signal::KILL);
    };
    // SAFETY: the handler makes one system call and touches no memory.
    let handled = unsafe { signal_hook::low_level::register(PARENT_DIED.as_raw(), end) };
    let signal = match handled {
        Ok(_) => PARENT_DIED,
        Err(_) => Signal::KILL,
    };
    // Best effort: without the signal, the worker ends when its next request fails.
    let _ = rustix::process::set_parent_process_death_signal(Some(signal));
    // The parent may have died before the signal was set.
    let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    if now != parent {
        std::process::exit(0);
    }
}

/// Kills what a task has left behind in this process's group, and waits until it has ended.
pub(crate) fn end_children() {
    for _ in 0..ROUNDS_MAX {
        if !reap() {
            return;
        }
        let own = rustix::process::getpid();
        let left: Vec<Pid> = members()
            .filter(|member| member.group == own && member.pid != own)
            .map(|member| member.pid)
            .collect();
        if left.is_empty() {
            // One may have ended since.
            reap();
            return;
        }
        for pid in left {
            // Fails if the process has just ended.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        // A killed child ends in a moment; with it, its own children become this process's.
        let _ = rustix::process::waitid(WaitId::Pgid(Some(own)), WaitIdOptions::EXITED);
    }
}

/// Collects the children that have ended; whether there are others.
fn reap() -> bool {
    loop {
        match rustix::process::waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// A process and the group that it is in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub pid: Pid,
    pub group: Pid,
}

/// All living processes that this one can see.
pub(crate) fn members() -> impl Iterator<Item = Member> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|process| {
        let pid: i32 = process.file_name().to_str()?.parse().ok()?;
        let stat = read_small(&format!("/proc/{pid}/stat")).ok()?;
        Some(Member {
            pid: Pid::from_raw(pid)?,
            group: Pid::from_raw(group_in(&stat)?)?,
        })
    })
}

/// The group in a line of `/proc/PID/stat`: `PID (NAME) STATE PARENT GROUP ..`, where the name may have blanks and
/// parentheses. `None` for a process that has ended, and waits to be collected.
fn group_in(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    fields.nth(1)?.parse().ok().filter(|_| state != "Z")
}

/// A file of `/proc`, as text.
pub(crate) fn read_small(path: &str) -> io::Result<String> {
    // Names of processes are any bytes.
    Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_hides_no_group() {
        assert_eq!(group_in("7 (a) b) S 1 42 42 0 -1"), Some(42));
        assert_eq!(group_in("7 (sh) Z 1 42 42 0 -1"), None);
        assert_eq!(group_in("7 (sh) R 1"), None);
        assert_eq!(group_in(""), None);
    }

    #[test]
    fn this_process_is_seen_in_its_group() {
        let own = rustix::process::getpid();
        let seen = members().find(|member| member.pid == own).unwrap();
        assert_eq!(seen.group, rustix::process::getpgrp());
    }
}
