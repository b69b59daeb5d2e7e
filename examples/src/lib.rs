//! What the std-thread version and the Crucial version of each application share: numbers, files,
//! pictures; nothing about threads.

pub mod kmeans;
pub mod mandelbrot;
pub mod montecarlo;
pub mod points;
pub mod santa;

/// What can go wrong with an application's input and output.
#[derive(Debug, thiserror::Error)]
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
}

impl From<Error> for crucial::Error {
    fn from(error: Error) -> crucial::Error {
        crucial::Error::other(error)
    }
}
