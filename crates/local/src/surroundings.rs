//! The surroundings of a cloud thread: its working directory, its environment, its umask.
//!
//! A worker is warm: it runs one thread after another, and these three belong to the whole process. So each thread
//! begins with what the program had at `spawn`, and what the thread before has changed is gone.
//!
//! Only what differs from the environment at the start travels: workers are started with that
//! ([`environment_at_start`]).
//!
//! The module has `unsafe` code: changing the environment is safe only where no other thread reads it.

#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::LazyLock;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

/// Where a cloud thread runs, as far as its program says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surroundings {
    /// The working directory; `None`: that of the worker at its start. Bytes, as a path need not be UTF-8.
    directory: Option<Vec<u8>>,
    /// The umask; `None`: that of the worker at its start.
    umask: Option<u32>,
    /// Variables that differ from those at the start; `None`: not set.
    variables: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// What the process had at its start.
struct Start {
    environment: BTreeMap<OsString, OsString>,
    directory: io::Result<OwnedFd>,
    umask: Option<u32>,
}

static START: LazyLock<Start> = LazyLock::new(|| Start {
    environment: std::env::vars_os().collect(),
    directory: rustix::fs::open(".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(io::Error::from),
    umask: umask(),
});

/// The environment with which workers are started: that of this process when it was first asked for.
pub fn environment_at_start() -> &'static BTreeMap<OsString, OsString> {
    &START.environment
}

impl Surroundings {
    /// Those of this process now.
    pub fn now() -> Surroundings {
        let start = &START.environment;
        let mut variables = BTreeMap::new();
        let mut kept = 0;
        for (name, value) in std::env::vars_os() {
            let old = start.get(&name);
            kept += usize::from(old.is_some());
            if old != Some(&value) {
                variables.insert(name.into_vec(), Some(value.into_vec()));
            }
        }
        if kept < start.len() {
            let removed = start.keys().filter(|name| std::env::var_os(name).is_none());
            variables.extend(removed.map(|name| (name.as_bytes().to_vec(), None)));
        }
        Surroundings {
            // A directory that was removed has no path; workers were started in it.
            directory: std::env::current_dir()
                .ok()
                .map(|path| path.into_os_string().into_vec()),
            umask: umask(),
            variables,
        }
    }

    /// Sets a variable.
    ///
    /// # Errors
    ///
    /// If the system allows no such name or value.
    pub fn set_variable(&mut self, name: &OsStr, value: &OsStr) -> Result<(), String> {
        let (key, text) = (name.as_bytes(), value.as_bytes());
        if key.is_empty() || key.contains(&b'=') || key.contains(&0) || text.contains(&0) {
            return Err(format!(
                "{name:?}={value:?} is no variable: a name is not empty and has no `=`, and neither it nor the value has NUL"
            ));
        }
        self.variables.insert(key.to_vec(), Some(text.to_vec()));
        Ok(())
    }

    /// Whether all is as at the worker's start.
    pub fn is_empty(&self) -> bool {
        *self == Surroundings::default()
    }

    /// Gives them to this process, and takes away what a thread before has changed. Only for a worker between two
    /// threads.
    ///
    /// # Errors
    ///
    /// If the directory cannot be entered.
    pub fn enter(&self) -> io::Result<()> {
        self.enter_directory()?;
        if let Some(mask) = self.umask.or(START.umask) {
            rustix::process::umask(Mode::from_raw_mode(mask));
        }
        if !self.has_entered_environment() {
            self.enter_environment();
        }
        Ok(())
    }

    /// Whether the environment is as it is to be, which it mostly is.
    fn has_entered_environment(&self) -> bool {
        let start = &START.environment;
        let own = |name: &OsString| self.variables.get(name.as_bytes());
        let is_wanted = |(name, value): &(OsString, OsString)| match own(name) {
            Some(new) => new.as_deref() == Some(value.as_bytes()),
            None => start.get(name) == Some(value),
        };
        let kept = start.keys().filter(|name| own(name).is_none()).count();
        let set = self.variables.values().flatten().count();
        let mut now = 0;
        let mut variables = std::env::vars_os().inspect(|_| now += 1);
        variables.all(|variable| is_wanted(&variable)) && now == kept + set
    }

    fn enter_environment(&self) {
        let mut wanted = START.environment.clone();
        for (name, value) in &self.variables {
            let name = OsString::from_vec(name.clone());
            match value {
                Some(value) => wanted.insert(name, OsString::from_vec(value.clone())),
                None => wanted.remove(&name),
            };
        }
        for (name, value) in std::env::vars_os() {
            match wanted.remove(&name) {
                Some(new) if new == value => {}
                // SAFETY: as below.
                Some(new) => unsafe { std::env::set_var(name, new) },
                // SAFETY: as below.
                None => unsafe { std::env::remove_var(name) },
            }
        }
        for (name, value) in wanted {
            // SAFETY: the worker runs no thread of the user's now, but for one that an earlier cloud thread has left
            // behind, and its own threads read the environment by the standard library only, whose lock is held here.
            unsafe { std::env::set_var(name, value) };
        }
    }

    fn enter_directory(&self) -> io::Result<()> {
        let Some(directory) = &self.directory else {
            return match &START.directory {
                Ok(directory) => Ok(rustix::process::fchdir(directory)?),
                // Without a way back the worker stays where it is.
                Err(_) => Ok(()),
            };
        };
        let directory = Path::new(OsStr::from_bytes(directory));
        std::env::set_current_dir(directory).map_err(|error| {
            let message = format!(
                "cannot enter the program's working directory {}: {error}",
                directory.display()
            );
            io::Error::new(error.kind(), message)
        })
    }
}

/// The umask of this process; `None` where the system does not tell. (The system call that tells it sets it as well, for all
/// threads.)
fn umask() -> Option<u32> {
    // One of the first lines, within few bytes whatever the process's name is.
    let mut status = [0; 256];
    let length = File::open("/proc/self/status")
        .ok()?
        .read(&mut status)
        .ok()?;
    let status = String::from_utf8_lossy(&status[..length]);
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(mask.trim(), 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_none_is_refused() {
        let mut surroundings = Surroundings::default();
        for (name, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0")] {
            let refused = surroundings.set_variable(name.as_ref(), value.as_ref());
            assert!(refused.unwrap_err().contains("is no variable"));
        }
        assert!(surroundings.is_empty());
        surroundings
            .set_variable("A".as_ref(), "=".as_ref())
            .unwrap();
        assert!(!surroundings.is_empty());
    }

    #[test]
    fn what_did_not_change_does_not_travel() {
        let now = Surroundings::now();
        assert_eq!(now.variables, BTreeMap::new());
        assert_eq!(now.umask, umask());
        assert!(now.directory.is_some() && now.umask.is_some());
    }
}
