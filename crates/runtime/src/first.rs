//! The first process of a container.
//!
//! The system treats it apart: a signal that it does not handle is ignored, so that nothing ends it in good order, and it has
//! to collect processes whose parents have died. A program is not written for that. So the first process runs the program
//! as a child, passes signals on, collects what has ended, and ends as the child does.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, getpid, wait};
use signal_hook::iterator::Signals;

/// Runs the program as a child if this is the first process; returns in the child, and in any other process.
pub(crate) fn run_as_child_if_first() {
    if getpid() != Pid::INIT {
        return;
    }
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let mut program = Command::new("/proc/self/exe");
    // Before the child is there, so that no signal is missed.
    let (Ok(signals), Ok(child)) = (
        Signals::new(crucial_local::signals::ending()),
        program.arg0(name).args(arguments).spawn(),
    ) else {
        // Better the program as the first process than no program.
        return;
    };
    let pid = Pid::from_child(&child);
    pass_signals_on(signals, pid);
    let status = collect_until_ended(pid);
    std::process::exit(
        status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
    );
}

fn pass_signals_on(mut signals: Signals, program: Pid) {
    let pass_on = move || {
        for signal in signals.forever() {
            crucial_local::signals::pass_on(signal, program);
        }
    };
    // Without the thread the program runs, and is ended as before.
    let _ = crucial_local::thread::start("crucial-signals", pass_on);
}

/// Collects children, also those that it has inherited, until the program has ended.
fn collect_until_ended(program: Pid) -> ExitStatus {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == program => {
                return ExitStatus::from_raw(status.as_raw());
            }
            Ok(_) | Err(Errno::INTR) => {}
            // No child is left, so that its status is not to be had any more.
            Err(_) => return ExitStatus::from_raw(1 << 8),
        }
    }
}
