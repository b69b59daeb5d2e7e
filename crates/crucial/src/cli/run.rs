//! A command under a permit or a lock, as flock(1) does it with a file.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use crucial_object::{Error, Result};

use super::value::Answer;
use super::{print, signals};
use crate::runtime;

/// Where the command finds the fencing token.
const TOKEN: &str = "CRUCIAL_TOKEN";

/// Exit status: the command can not be run, or there is none of this name; as in sh, env and timeout.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Runs a program under what is held with `token`, and gives it back. The exit status is the program's.
pub fn program(
    words: &[OsString],
    token: u64,
    give_back: impl FnOnce() -> Result<()>,
) -> Result<Answer> {
    let Some((name, arguments)) = words.split_first() else {
        return Err(Error::Config {
            detail: "a command is needed behind --".to_owned(),
        });
    };
    let server = runtime::current()?.servers();
    let mut program = Command::new(name);
    program
        .args(arguments)
        .env(TOKEN, token.to_string())
        .env("CRUCIAL_CLUSTER", server);
    let code = exit_code(&mut program)?;
    let Err(error) = give_back() else {
        return Ok(Answer::exit(code));
    };
    // Somebody else may have had it at the same time, which is not passed over.
    let error = format!("what the command held may have been lost while it ran: {error}");
    if code == 0 {
        return Err(Error::Other(error));
    }
    signals::settle();
    print::error(error);
    Ok(Answer::exit(code))
}

/// Runs a program; its exit status is the answer's.
pub fn command(command: &mut Command) -> Result<Answer> {
    exit_code(command).map(Answer::exit)
}

fn exit_code(command: &mut Command) -> Result<u8> {
    signals::run(command, as_in_a_shell).or_else(|error| {
        print::error(format!("{}: {error}", command.get_program().display()));
        Ok(match error.kind() {
            ErrorKind::NotFound => NOT_FOUND,
            _ => NOT_EXECUTABLE,
        })
    })
}

/// A program that a signal ended counts as 128 and the signal.
fn as_in_a_shell(status: ExitStatus) -> u8 {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, signal) => 128 + signal.unwrap_or(0),
    };
    u8::try_from(code).unwrap_or(1)
}
