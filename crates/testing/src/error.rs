//! Errors of tests' own steps.

use std::time::Duration;

/// Why a step of a test has failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A process, a file, a socket.
    #[error("{what}: {source}")]
    Io {
        /// The operation that failed.
        what: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A condition has not become true in time.
    #[error("not within {0:?}: {1}")]
    Late(Duration, String),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] crucial_object::Error),
    /// An observation is wrong.
    #[error("{0}")]
    Wrong(String),
}

/// The result of a test's step.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Names the operation that failed.
pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.into();
    move |source| Error::Io { what, source }
}
