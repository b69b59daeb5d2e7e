//! What the std-thread version and the Crucial version of each application share: numbers, files,
//! pictures; of threads only what std lacks (a [`Monitor`]).

use std::any::Any;
use std::fmt;

pub mod forest;
pub mod inference;
pub mod kmeans;
pub mod logistic;
pub mod mandelbrot;
pub mod mapreduce;
mod monitor;
pub mod montecarlo;
pub mod philosophers;
pub mod plot;
pub mod points;
pub mod santa;
pub mod wordcount;

pub use monitor::Monitor;

/// The result of an application's input and output.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with an application's input and output.
#[derive(thiserror::Error)]
pub enum Error {
    /// A file can not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A file holds something else than expected.
    #[error("{path}: {detail}")]
    Content {
        /// The file.
        path: String,
        /// Where, and what is wrong.
        detail: String,
    },
    /// An option makes no sense.
    #[error("{0}")]
    Option(String),
    /// A picture can not be drawn.
    #[error("can not draw {path}: {detail}")]
    Picture {
        /// The file.
        path: String,
        /// Why not.
        detail: String,
    },
    /// A thread panicked.
    #[error("a thread panicked: {0}")]
    Panicked(String),
}

// What a `main` that fails prints.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// So that a std thread is joined as a cloud thread is: `thread.join()??`.
impl From<Box<dyn Any + Send>> for Error {
    fn from(panic: Box<dyn Any + Send>) -> Error {
        let message = panic.downcast_ref::<String>().cloned();
        let message = message.or_else(|| panic.downcast_ref().map(|text: &&str| text.to_string()));
        Error::Panicked(message.unwrap_or_default())
    }
}

impl From<Error> for crucial::Error {
    fn from(error: Error) -> crucial::Error {
        crucial::Error::other(error)
    }
}
