//! Printing. Whoever reads may have seen enough (`crucial … | head -1`), which is no error.

use std::fmt::Display;
use std::io::{BufWriter, ErrorKind, Write};

use crucial_object::{Error, Result};

/// Prints lines; whether somebody still reads.
pub fn lines(lines: impl IntoIterator<Item = impl Display>) -> Result<bool> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let written = lines
        .into_iter()
        .try_for_each(|line| writeln!(out, "{line}"))
        .and_then(|()| out.flush());
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::Other(format!("can not print: {error}"))),
    }
}

/// Says what failed.
pub fn error(message: impl Display) {
    // If nobody reads that either, there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "crucial: {message}");
}
