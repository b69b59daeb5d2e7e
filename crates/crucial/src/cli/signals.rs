//! A command that a signal ends says goodbye first, so that its place in a barrier, a line or a queue is free
//! at once, and not when its lease lapses. One that runs another program passes the signal on.

use std::process::{Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, mpsc};
use std::time::Duration;

use crucial_object::{Error, Result};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::runtime;

/// How long the server is given to hear that this process ends.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// What a signal means now.
#[derive(Clone, Copy)]
enum Phase {
    /// It ends this process.
    Calls,
    /// It is for this program.
    Runs(Pid),
    /// The program has ended so; what it ran under is being given back.
    HasRun(u8),
}

/// Locked for good by who ends this process.
static PHASE: Mutex<Phase> = Mutex::new(Phase::Calls);

fn phase() -> MutexGuard<'static, Phase> {
    PHASE.lock().unwrap_or_else(|e| e.into_inner())
}

/// Answers signals from here on, but for those that this process was started to ignore, as by nohup(1).
pub fn listen() -> Result<()> {
    let ignored = ignored();
    let heard = [SIGHUP, SIGINT, SIGQUIT, SIGTERM]
        .into_iter()
        .filter(|signal| ignored & (1 << (signal - 1)) == 0);
    let mut signals = Signals::new(heard)
        .map_err(|error| Error::Other(format!("can not listen for signals: {error}")))?;
    std::thread::Builder::new()
        .name("crucial-signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                let phase = phase();
                match *phase {
                    Phase::Calls => end(signal, None),
                    Phase::Runs(program) => pass_on(signal, program),
                    Phase::HasRun(code) => end(signal, Some(code)),
                }
            }
        })?;
    Ok(())
}

/// Does not return if a signal is ending this process: then what failed is this process, and not its call.
pub fn settle() {
    drop(phase());
}

/// Ends this process: as the signal does, or with the exit status of the program that it has run.
fn end(signal: i32, code: Option<u8>) {
    let (ended, wait) = mpsc::channel();
    std::thread::spawn(move || {
        runtime::end();
        let _ = ended.send(());
    });
    let _ = wait.recv_timeout(GOODBYE_MAX);
    if let Some(code) = code {
        std::process::exit(code.into());
    }
    // A shell sees that it was the signal.
    let _ = signal_hook::low_level::emulate_default_handler(signal);
    std::process::exit(128 + signal);
}

/// The program decides how it ends.
fn pass_on(signal: i32, program: Pid) {
    let passed = match signal {
        SIGHUP => Signal::HUP,
        SIGTERM => Signal::TERM,
        // A key press reaches all processes in the foreground of the terminal. Many programs take a second
        // one for "at once".
        _ if is_in_foreground() => return,
        SIGINT => Signal::INT,
        _ => Signal::QUIT,
    };
    let _ = kill_process(program, passed);
}

/// Runs a program to its end; its exit status, with `code`, is this process's from then on.
pub fn run(command: &mut Command, code: impl Fn(ExitStatus) -> u8) -> std::io::Result<u8> {
    let mut now = phase();
    let mut program = command.spawn()?;
    let pid = Pid::from_child(&program);
    *now = Phase::Runs(pid);
    drop(now);
    // First without taking its status, so that its id can not become that of another process while a signal
    // is passed on.
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while matches!(waitid(WaitId::Pid(pid), look), Err(Errno::INTR)) {}
    let mut now = phase();
    let code = code(program.wait()?);
    *now = Phase::HasRun(code);
    Ok(code)
}

/// The signals that this process ignores, a bit each. Where the system does not tell, none.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// Whether a key press on the terminal is for this process. Where the system does not tell, it is not.
fn is_in_foreground() -> bool {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which can have anything in it: state, parent, group, session, terminal, its group.
    let Some((_, fields)) = stat.rsplit_once(')') else {
        return false;
    };
    let fields: Vec<&str> = fields.split_whitespace().collect();
    matches!(fields[..], [_, _, group, _, _, foreground, ..] if group == foreground)
}
