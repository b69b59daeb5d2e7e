//! The program that tests start as servers and commands.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Result, io};

/// An executable with the commands of Crucial.
#[derive(Clone, Debug)]
pub struct Executable {
    path: PathBuf,
    /// The arguments before a command.
    prefix: &'static [&'static str],
}

impl Executable {
    /// The executable of this process, whose `main` has `#[crucial::main]`.
    pub fn this() -> Result<Executable> {
        Ok(Executable {
            path: std::env::current_exe().map_err(io("this executable"))?,
            prefix: &["crucial"],
        })
    }

    /// The `crucial` command.
    pub fn crucial(path: impl Into<PathBuf>) -> Executable {
        Executable {
            path: path.into(),
            prefix: &[],
        }
    }

    /// The program's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The arguments before those of a command.
    pub fn prefix(&self) -> &'static [&'static str] {
        self.prefix
    }

    /// A process that will run a command; `arguments` begin with the command's name.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(self.prefix).args(arguments);
        command
    }
}
