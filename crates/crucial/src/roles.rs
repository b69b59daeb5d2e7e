//! The roles of an executable: program, worker, server.

use crucial_platform::worker;
use tracing::Level;

use crate::runtime;
use crate::worker::Worker;

/// Runs the role that this process was started for. The expansion of `#[main]` calls it.
#[doc(hidden)]
pub fn main<R>(program: fn() -> R) -> R {
    runtime::main_is_ours();
    // What it is told to be comes before what is around it.
    #[cfg(feature = "cli")]
    if std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == "crucial")
    {
        crate::cli::run(std::env::args_os().skip(1));
    }
    if worker::is_worker() {
        show_tracing(Level::INFO);
        worker::run(&Worker::process());
    }
    // Also when the program panics.
    let _end = EndRun;
    program()
}

struct EndRun;

impl Drop for EndRun {
    fn drop(&mut self) {
        runtime::end();
    }
}

/// Prints tracing events as lines: of a worker, which the platform brings to the client, and of a server. `level`: from
/// which on, where `RUST_LOG` does not say.
pub(crate) fn show_tracing(level: Level) {
    #[cfg(not(feature = "tracing-lines"))]
    let _ = level;
    #[cfg(feature = "tracing-lines")]
    {
        use tracing_subscriber::filter::{LevelFilter, Targets};
        use tracing_subscriber::prelude::*;

        let filter = std::env::var("RUST_LOG")
            .ok()
            .and_then(|filter| filter.parse::<Targets>().ok())
            .unwrap_or_else(|| {
                Targets::new()
                    .with_default(level)
                    // Its warnings are of every connection that breaks.
                    .with_target("openraft", LevelFilter::OFF)
            });
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .without_time();
        // Fails only if there is one already, which is as good.
        let _ = tracing_subscriber::registry()
            .with(lines.with_filter(filter))
            .try_init();
    }
}
