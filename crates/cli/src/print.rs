//! Printing. A reader that closes the pipe (`crucial … | head -1`) is no error.

use std::fmt::Display;
use std::io::{BufWriter, ErrorKind, Write};

use crucial_object::{Error, Result, system_reason};

/// Prints lines, and returns whether the output is still open.
pub fn lines(lines: impl IntoIterator<Item = impl Display>) -> Result<bool> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let written = lines
        .into_iter()
        .try_for_each(|line| writeln!(out, "{line}"))
        .and_then(|()| out.flush());
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::Other(format!(
            "cannot print: {}",
            system_reason(&error)
        ))),
    }
}

/// Prints an error.
pub fn error(message: impl Display) {
    // If standard error is closed, the error cannot be reported anywhere.
    let _ = writeln!(std::io::stderr(), "crucial: {message}");
}
