//! What a program prints. A reader that closes the pipe (`kmeans | head -1`) ends the program quietly, and output that
//! cannot be written is an error.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};
use std::process::exit;

/// As `println!`, which panics where this ends the program.
#[macro_export]
macro_rules! say {
    ($($words:tt)*) => {
        $crate::say::line(format_args!($($words)*))
    };
}

/// Prints a line.
pub fn line(words: Arguments<'_>) {
    // Standard output writes line by line, so an error comes at once.
    match writeln!(std::io::stdout(), "{words}") {
        Ok(()) => {}
        // Whoever reads has what they want.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => exit(0),
        Err(error) => {
            note(format_args!("cannot print: {}", crate::reason(&error)));
            exit(1);
        }
    }
}

/// Tells the user something that is no result.
pub fn note(words: Arguments<'_>) {
    // There is nobody to tell that nobody can be told.
    let _ = writeln!(std::io::stderr(), "{words}");
}
