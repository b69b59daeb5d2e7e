//! Signals. A command that a signal ends closes its session first, so that its place in a barrier or a wait queue is
//! free at once, and not when its lease expires. A command that runs another program passes the signal on.

use std::process::{Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, mpsc};
use std::time::Duration;

use crucial_local::{signals, system_reason};
use crucial_object::{Error, Result};
use crucial_runtime::runtime;
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, getpid, waitid};
use signal_hook::iterator::Signals;

/// How long a command that a signal ends tries to close its session.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// The effect of a signal in the present phase of a command.
#[derive(Clone, Copy)]
enum Phase {
    /// The command makes calls: a signal ends this process.
    Calls,
    /// The command runs this program, to which signals are passed on.
    Runs(Pid),
    /// The program has ended with this exit status; the lock or permits are being released.
    HasRun(u8),
}

/// Locked for good by the thread that ends this process.
static PHASE: Mutex<Phase> = Mutex::new(Phase::Calls);

fn phase() -> MutexGuard<'static, Phase> {
    PHASE.lock().unwrap_or_else(|e| e.into_inner())
}

/// The signals that end this process, from here on to be handled.
pub fn ending() -> Result<Signals> {
    Signals::new(signals::ending()).map_err(|error| {
        Error::Other(format!(
            "cannot listen for signals: {}",
            system_reason(&error)
        ))
    })
}

/// Handles signals from here on.
pub fn listen() -> Result<()> {
    let mut signals = ending()?;
    crucial_local::thread::start("crucial-signals", move || {
        for signal in signals.forever() {
            let phase = phase();
            match *phase {
                Phase::Calls => end(signal, None),
                Phase::Runs(program) => signals::pass_on(signal, program),
                Phase::HasRun(code) => end(signal, Some(code)),
            }
        }
    })?;
    Ok(())
}

/// Does not return if a signal is ending this process: then the failure of the present call must not be reported.
pub fn wait_if_ending() {
    drop(phase());
}

/// Ends this process as the signal does, or with the exit status `code` of the program that the command has run.
fn end(signal: i32, code: Option<u8>) {
    let (ended, wait) = mpsc::channel();
    let goodbye = crucial_local::thread::start("crucial-goodbye", move || {
        runtime::end();
        let _ = ended.send(());
    });
    // Without a thread the session ends with its lease.
    if goodbye.is_ok() {
        let _ = wait.recv_timeout(GOODBYE_MAX);
    }
    if let Some(code) = code {
        std::process::exit(code.into());
    }
    // Shells can see which signal ended a process. (The first one of a container is not ended by signals.)
    if getpid() != Pid::INIT {
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
    std::process::exit(128 + signal);
}

/// Runs a program to its end. From then on a signal ends this process with the program's exit status, as `code`
/// computes it.
pub fn run(command: &mut Command, code: impl Fn(ExitStatus) -> u8) -> std::io::Result<u8> {
    let mut now = phase();
    let mut program = command.spawn()?;
    let pid = Pid::from_child(&program);
    *now = Phase::Runs(pid);
    drop(now);
    // First without reaping the process, so that its id cannot become that of another process while a signal is passed
    // on.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while matches!(waitid(WaitId::Pid(pid), options), Err(Errno::INTR)) {}
    let mut now = phase();
    let code = code(program.wait()?);
    *now = Phase::HasRun(code);
    Ok(code)
}
