//! A command under a permit or a lock, as flock(1) does it with a file.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crucial_object::{Error, Result};

use super::value::Answer;

/// Runs a program; its exit status is the answer's. One that a signal ended counts as 128 and the signal,
/// as in a shell.
pub fn program(words: &[String]) -> Result<Answer> {
    let Some((name, arguments)) = words.split_first() else {
        return Err(Error::Config {
            detail: "a command is needed behind --".to_owned(),
        });
    };
    command(Command::new(name).args(arguments))
}

/// The same, of a program that is about to be started.
pub fn command(command: &mut Command) -> Result<Answer> {
    let status = command.status().map_err(|error| {
        let name = command.get_program().display();
        Error::Other(format!("{name}: {error}"))
    })?;
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, signal) => 128 + signal.unwrap_or(0),
    };
    Ok(Answer::exit(u8::try_from(code).unwrap_or(1)))
}
