//! How many files a process may have open.

use std::fs;

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

/// How many files this process may have open.
pub fn limit() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    })
}

/// How many files this process has open; 0 where the system does not tell.
pub fn open() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}
