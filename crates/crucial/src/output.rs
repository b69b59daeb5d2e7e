//! What cloud threads print.

use std::io::Write;

use crucial_platform::{OutputSink, Stream};

use crate::progress;

/// Brings each line to this process's terminal, with the thread's name before it.
pub(crate) struct Lines;

impl OutputSink for Lines {
    fn line(&self, stream: Stream, thread: &str, line: &str) {
        // One write a line, so that lines stay whole. A closed terminal is no reason to fail.
        let text = format!("[{thread}] {line}\n");
        progress::suspended(|| {
            let _ = match stream {
                Stream::Stdout => std::io::stdout().lock().write_all(text.as_bytes()),
                Stream::Stderr => std::io::stderr().lock().write_all(text.as_bytes()),
            };
        });
    }
}
