//! How many files a process may have open.

use std::{fs, io};

use crucial_object::{Error, exceeded_limit};

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

/// Files that a program with a server of its own and a worker has open, or may need for a moment.
pub const PROGRAM_FILES: usize = 64;

/// The name of the limit, in an error.
const LIMIT: &str = "ulimit -n";

/// The message for a process that may open fewer files than it needs.
pub fn too_few(needed: usize) -> String {
    let most = limit();
    format!(
        "a process may have {most} open files here (`ulimit -n`), and at least {needed} are needed"
    )
}

/// The error for an operation that failed because this process has as many open files as it may have; `None` for
/// another reason.
pub fn exhausted(error: &io::Error, what: &str) -> Option<Error> {
    let named = exceeded_limit(error).filter(|limit| limit.contains(LIMIT))?;
    Some(Error::LimitExceeded {
        limit: LIMIT.to_owned(),
        max: limit() as u64,
        detail: format!("{what}: {named} leaves no room"),
    })
}

/// Whether this is the error of [`exhausted`].
pub fn is_exhausted(error: &Error) -> bool {
    matches!(error, Error::LimitExceeded { limit, .. } if limit == LIMIT)
}
