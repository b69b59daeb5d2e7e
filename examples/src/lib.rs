//! The code that the std-thread version and the Crucial version of each application share: numbers, files and pictures.

use std::any::Any;
use std::fmt;

use serde::{Deserialize, Serialize};

pub mod forest;
pub mod inference;
pub mod kmeans;
pub mod logistic;
pub mod mandelbrot;
pub mod mapreduce;
pub mod memory;
pub mod montecarlo;
pub mod options;
pub mod paths;
pub mod philosophers;
pub mod plot;
pub mod points;
pub mod santa;
pub mod say;
pub mod table;
mod text;
pub mod wordcount;

/// The result of an application's input and output.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with an application's input and output.
#[derive(thiserror::Error, Serialize, Deserialize)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{path}: {}", reason(source))]
    File {
        /// The file.
        path: String,
        /// The cause.
        #[serde(with = "as_text")]
        source: std::io::Error,
    },
    /// A file has unexpected contents.
    #[error("{path}: {detail}")]
    Content {
        /// The file.
        path: String,
        /// The position, and what is wrong.
        detail: String,
    },
    /// An option is invalid.
    #[error("{0}")]
    Option(String),
    /// A picture cannot be drawn.
    #[error("cannot draw {path}: {detail}")]
    Picture {
        /// The file.
        path: String,
        /// The cause.
        detail: String,
    },
    /// A thread panicked.
    #[error("a thread panicked: {0}")]
    Panicked(String),
}

/// An error of the system travels as its text.
mod as_text {
    use std::io::Error;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(error: &Error, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(error)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Error, D::Error> {
        String::deserialize(deserializer).map(Error::other)
    }
}

/// An error of the system in words, without its number.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let words = text
        .split_once(" (os error ")
        .map(|(words, _)| words.to_owned());
    words.unwrap_or(text)
}

// A failing `main` prints the error with `Debug`.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// This conversion lets a std thread be joined like a cloud thread: `thread.join()??`.
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
