//! A command under a permit or a lock, as flock(1) does it with a file.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use crucial_object::{Error, Result, system_reason};
use crucial_runtime::runtime;

use super::value::Answer;
use super::{print, signals};

/// The environment variable with the fencing token of what is held.
const TOKEN: &str = "CRUCIAL_TOKEN";

/// Exit statuses, as in sh, env and timeout: the command cannot be run, or there is no such command.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Runs a program while a lock or permits are held with `token`, and then calls `release`. The exit status is the
/// program's.
pub fn run_holding(
    words: &[OsString],
    token: u64,
    release: impl FnOnce() -> Result<()>,
) -> Result<Answer> {
    let Some((name, arguments)) = words.split_first() else {
        return Err(Error::Config {
            detail: "a command is needed after --".to_owned(),
        });
    };
    let server = runtime::current()?.servers();
    let mut program = Command::new(name);
    program
        .args(arguments)
        .env(TOKEN, token.to_string())
        .env("CRUCIAL_CLUSTER", server);
    let code = exit_code(&mut program)?;
    let Err(error) = release() else {
        return Ok(Answer::exit(code));
    };
    // Another process may have held the lock at the same time, which must be reported.
    let error = format!("the lock or permits may have been lost while the command ran: {error}");
    if code == 0 {
        return Err(Error::Other(error));
    }
    signals::wait_if_ending();
    print::error(error);
    Ok(Answer::exit(code))
}

/// Runs a program. The answer has the exit status of the program.
pub fn run(command: &mut Command) -> Result<Answer> {
    exit_code(command).map(Answer::exit)
}

fn exit_code(command: &mut Command) -> Result<u8> {
    signals::run(command, as_in_a_shell).or_else(|error| {
        let (program, reason) = (command.get_program().display(), system_reason(&error));
        print::error(format!("{program}: {reason}"));
        Ok(match error.kind() {
            ErrorKind::NotFound => NOT_FOUND,
            _ => NOT_EXECUTABLE,
        })
    })
}

/// The exit status of a program that a signal ended is 128 plus the signal.
fn as_in_a_shell(status: ExitStatus) -> u8 {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, signal) => 128 + signal.unwrap_or(0),
    };
    u8::try_from(code).unwrap_or(1)
}
