//! A cluster of real servers, to do bad things to.
//!
//! - [`Cluster`]: server processes on this machine: started, killed, paused, cut off, replaced.
//! - [`Net`]: where they are: on loopback, or each in a network namespace of its own.
//! - [`clients`]: what uses the cluster meanwhile, and writes down what it saw.
//! - [`Random`]: numbers that look random, from a seed.
//!
//! The servers are this very executable, which has the role `crucial server` by `#[crucial::main]`.

use std::time::Duration;

pub mod clients;
mod cluster;
mod net;
mod random;

pub use cluster::{Cluster, Entry, Options, Server, WHOLE_PATIENCE};
pub use net::Net;
pub use random::Random;

/// What can go wrong with a test's own doings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A process, a file, a socket.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Something did not come about in time.
    #[error("not within {0:?}: {1}")]
    Late(Duration, String),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] crucial::Error),
    /// What was seen is wrong.
    #[error("{0}")]
    Wrong(String),
}

/// The result of a test's step.
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.into();
    move |source| Error::Io { what, source }
}

/// Waits until something is so; asks again every 20 ms.
///
/// # Errors
///
/// [`Error::Late`] if it is not so within `patience`.
pub fn wait_until(
    what: &str,
    patience: Duration,
    mut is_so: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let started = std::time::Instant::now();
    while !is_so()? {
        if started.elapsed() > patience {
            return Err(Error::Late(patience, what.to_owned()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
