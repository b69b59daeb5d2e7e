//! Signals that end processes.
//!
//! The module has `unsafe` code: the mask of signals is set by the C library.

#![allow(unsafe_code)]

use rustix::process::{Pid, Signal, kill_process};

/// The signals by which somebody ends a process that does not handle them. (Of the others, some are those of faults, and those
/// of real time have no names.)
pub const ENDING: [Signal; 17] = [
    Signal::ABORT,
    Signal::ALARM,
    Signal::HUP,
    Signal::INT,
    Signal::IO,
    Signal::POWER,
    Signal::PROF,
    Signal::QUIT,
    Signal::STKFLT,
    Signal::SYS,
    Signal::TERM,
    Signal::TRAP,
    Signal::USR1,
    Signal::USR2,
    Signal::VTALARM,
    Signal::XCPU,
    Signal::XFSZ,
];

/// The numbers of those of [`ENDING`] that this process was not started to ignore, for instance by nohup(1).
pub fn ending() -> impl Iterator<Item = i32> {
    let ignored = ignored();
    let numbers = ENDING.into_iter().map(Signal::as_raw);
    numbers.filter(move |signal| ignored & (1 << (signal - 1)) == 0)
}

/// The signals that this process ignores, a bit each, the lowest for signal 1; none where the system does not tell.
pub fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// Lets all signals through to this thread, and to threads and processes that it starts: a process may be started with
/// some of them blocked, which nobody would lift then. To be called first.
pub fn unblock() {
    // SAFETY: the set is written by the first call and only read by the second.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Passes a signal on to a program that this process runs, which decides how to end.
pub fn pass_on(signal: i32, program: Pid) {
    let Some(signal) = Signal::from_named_raw(signal) else {
        return;
    };
    // A key press reaches all processes in the foreground of the terminal. Many programs take a second signal to mean
    // "at once".
    if matches!(signal, Signal::INT | Signal::QUIT) && is_in_foreground() {
        return;
    }
    let _ = kill_process(program, signal);
}

/// Whether this process is in the foreground of its terminal; false where the system does not tell.
fn is_in_foreground() -> bool {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name, which can have any characters: state, parent, group, session, terminal, foreground group.
    let Some((_, fields)) = stat.rsplit_once(')') else {
        return false;
    };
    let fields: Vec<&str> = fields.split_whitespace().collect();
    matches!(fields[..], [_, _, group, _, _, foreground, ..] if group == foreground)
}
