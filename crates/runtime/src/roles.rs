//! The roles of an executable: program, worker, command line.

use std::ffi::OsString;
use std::sync::Arc;

use crucial_object::held;
use crucial_platform::worker;
use tracing::Level;

use crate::worker::Worker;
use crate::{first, runtime};

/// The command line of an executable that has one: runs a command, and ends the process.
pub type CommandLine = fn(Vec<OsString>) -> !;

/// The first argument that makes a program a command line.
pub const COMMAND: &str = "crucial";

/// Whether this process was started as `PROGRAM crucial ..`.
pub fn is_command_of_program() -> bool {
    std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == COMMAND)
}

/// Runs the role that this process was started for. The expansion of `#[main]` calls this function through the facade,
/// which adds the command line if there is one.
pub fn main<R>(program: fn() -> R, command_line: Option<CommandLine>) -> R {
    hear_of_children();
    first::run_as_child_if_first();
    runtime::declare_roles();
    // An explicit argument comes before the environment, in which a script that a worker runs may find itself.
    if let Some(command_line) = command_line
        && is_command_of_program()
    {
        command_line(std::env::args_os().skip(1).collect());
    }
    if worker::is_worker() {
        show_tracing(Level::INFO);
        held::become_worker();
        worker::run(&Worker::process(runtime::adopt));
    }
    note_unreadable_filter();
    // Also when the program panics.
    let _end = EndRun;
    program()
}

/// Lets this process learn how its children end, also if it was started by one that does not want to know: a process
/// that ignores SIGCHLD is told nothing, and its children inherit that.
pub fn hear_of_children() {
    crucial_local::signals::unblock();
    const SIGCHLD: u32 = signal_hook::consts::SIGCHLD as u32;
    if crucial_local::signals::ignored() & (1 << (SIGCHLD - 1)) == 0 {
        return;
    }
    // With a handler, which does nothing, the signal is not ignored any more, neither here nor in a child. (Everybody else
    // is spared it: it interrupts system calls.)
    let _ = signal_hook::flag::register(signal_hook::consts::SIGCHLD, Arc::default());
}

struct EndRun;

impl Drop for EndRun {
    fn drop(&mut self) {
        runtime::end();
    }
}

/// The variable that says which tracing events are printed.
#[cfg(feature = "tracing-lines")]
const FILTER_VARIABLE: &str = "RUST_LOG";

/// Tells the user that the filter of tracing events has no effect, if it cannot be read. (Other programs than this one read
/// the variable, too, so that this is no error.)
fn note_unreadable_filter() {
    #[cfg(feature = "tracing-lines")]
    if let Some(Err(value)) = filter() {
        crate::output::note(format_args!(
            "{FILTER_VARIABLE}={value:?} has no effect: a level (error, warn, info, debug, trace, off) is expected, or \
             TARGET=LEVEL, or several of them with commas between"
        ));
    }
}

/// The filter of tracing events, or the value of its variable if that cannot be read.
#[cfg(feature = "tracing-lines")]
fn filter() -> Option<Result<tracing_subscriber::filter::Targets, OsString>> {
    let value = std::env::var_os(FILTER_VARIABLE).filter(|value| !value.is_empty())?;
    let parsed = value.to_str().and_then(|filter| filter.parse().ok());
    Some(parsed.ok_or(value))
}

/// Prints tracing events as lines on standard error: those of a worker, which the platform brings to the client, and
/// those of a server. `level` is the lowest level that is printed where `RUST_LOG` does not say.
pub fn show_tracing(level: Level) {
    #[cfg(not(feature = "tracing-lines"))]
    let _ = level;
    #[cfg(feature = "tracing-lines")]
    {
        use tracing_subscriber::filter::{LevelFilter, Targets};
        use tracing_subscriber::prelude::*;

        // One process says it, and not each worker.
        if !worker::is_worker() {
            note_unreadable_filter();
        }
        let filter = filter().and_then(Result::ok).unwrap_or_else(|| {
            Targets::new()
                .with_default(level)
                // openraft warns about every connection that breaks.
                .with_target("openraft", LevelFilter::OFF)
        });
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .without_time();
        // Fails only if the program has installed a subscriber already, which then prints.
        let _ = tracing_subscriber::registry()
            .with(lines.with_filter(filter))
            .try_init();
    }
}
