//! What cloud threads print.

use std::io::Write;

use crucial_platform::{OutputSink, Stream};

use crate::progress;

/// Tells the user what has become of a thread, at once.
pub(crate) fn note(text: std::fmt::Arguments<'_>) {
    let text = format!("crucial: {text}\n");
    progress::suspended(|| {
        // There is nobody to tell that nobody can be told.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    });
}

/// Prints each line on this process's terminal, after the thread's name.
pub(crate) struct Lines;

impl OutputSink for Lines {
    fn line(&self, stream: Stream, thread: &str, line: &str) {
        // One write for each line, so that lines stay whole. A closed terminal is no reason to fail.
        let text = format!("[{thread}] {line}\n");
        progress::suspended(|| {
            let _ = match stream {
                Stream::Stdout => std::io::stdout().lock().write_all(text.as_bytes()),
                Stream::Stderr => std::io::stderr().lock().write_all(text.as_bytes()),
            };
        });
    }
}
