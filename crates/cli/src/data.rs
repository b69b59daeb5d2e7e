//! The directory of a server's data: the one that `--data` names, or a temporary one.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, value_parser};
use crucial_local::system_reason;
use tempfile::TempDir;

/// `--data`.
pub fn argument() -> Arg {
    Arg::new("data")
        .long("data")
        .value_name("DIRECTORY")
        .value_parser(value_parser!(PathBuf))
}

/// The directory that `--data` names.
pub fn named(matches: &ArgMatches) -> Option<&PathBuf> {
    matches.get_one("data")
}

/// A directory of data.
pub enum DataDirectory {
    /// The user named the directory.
    Named(PathBuf),
    /// Removed when this value is dropped.
    Temporary(TempDir),
}

impl DataDirectory {
    /// The directory that `--data` names, or else a new one.
    pub fn of(matches: &ArgMatches) -> Result<DataDirectory, String> {
        if let Some(path) = named(matches) {
            return Ok(DataDirectory::Named(path.clone()));
        }
        let temporary = tempfile::tempdir().map_err(|error| {
            let reason = system_reason(&error);
            format!("cannot create a directory: {reason}; name one with --data")
        })?;
        Ok(DataDirectory::Temporary(temporary))
    }

    /// Where the directory is.
    pub fn path(&self) -> &Path {
        match self {
            DataDirectory::Named(path) => path,
            DataDirectory::Temporary(directory) => directory.path(),
        }
    }
}
