//! Where the lines go that workers print.

use std::sync::Arc;

/// The stream to which a worker printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Receives the lines that workers print.
///
/// The platform calls the sink on its only thread: a sink that blocks delays all invocations and the
/// enforcement of their time limits.
pub trait OutputSink: Send + Sync {
    /// Receives a `line` that `thread` printed, without the end of line. All lines of an invocation arrive before
    /// its completion is called.
    fn line(&self, stream: Stream, thread: &str, line: &str);
}

/// The default sink: prints `[thread] line` on the same stream of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prefixed;

impl OutputSink for Prefixed {
    fn line(&self, stream: Stream, thread: &str, line: &str) {
        use std::io::Write;
        let text = format!("[{thread}] {line}\n");
        // A closed terminal must not fail the program.
        let _ = match stream {
            Stream::Stdout => std::io::stdout().lock().write_all(text.as_bytes()),
            Stream::Stderr => std::io::stderr().lock().write_all(text.as_bytes()),
        };
    }
}

pub(crate) fn default_sink() -> Arc<dyn OutputSink> {
    Arc::new(Prefixed)
}
