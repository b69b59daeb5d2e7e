//! How many files a process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one: the usual limit of 1024, or of 64, is too low for what has a file for
/// each connection.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Best effort: with the old limit there is room for less, and one too many reports the cause.
    let _ = setrlimit(Resource::Nofile, raised);
}
