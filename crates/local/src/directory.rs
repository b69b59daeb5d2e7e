//! Private directories: made by this user, and entered by no other one.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, DirBuilder, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::names::user;

/// A directory in which a private one may be, and the setting that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    setting: &'static str,
    path: PathBuf,
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.setting {
            "" => write!(f, "{}", self.path.display()),
            setting => write!(f, "{setting}={}", self.path.display()),
        }
    }
}

/// Where this process looks for private directories, the best place first.
pub(crate) fn bases() -> Vec<Base> {
    let setting = |name| std::env::var_os(name);
    bases_of(setting("XDG_RUNTIME_DIR"), setting("TMPDIR"))
}

fn bases_of(runtime: Option<OsString>, temporary: Option<OsString>) -> Vec<Base> {
    let mut bases: Vec<Base> = Vec::new();
    let settings = [
        ("XDG_RUNTIME_DIR", runtime),
        ("TMPDIR", temporary),
        ("", Some("/tmp".into())),
    ];
    for (setting, path) in settings {
        let path = PathBuf::from(path.unwrap_or_default());
        let is_new = bases.iter().all(|base| base.path != path);
        if is_new && !path.as_os_str().is_empty() {
            bases.push(Base { setting, path });
        }
    }
    bases
}

impl Base {
    #[cfg(test)]
    pub(crate) fn at(path: &Path) -> Base {
        Base {
            setting: "TMPDIR",
            path: path.to_owned(),
        }
    }

    /// The directory of `user` for the sockets of all its servers.
    fn shared(&self, user: u32) -> PathBuf {
        self.path.join(format!("crucial-{user}"))
    }

    /// The user's directory for the sockets of all its servers, made if need be.
    ///
    /// # Errors
    ///
    /// The base, or what is there, can be changed by another user; the directory cannot be made.
    pub fn make(&self) -> io::Result<PathBuf> {
        self.check()?;
        let directory = self.shared(user());
        match DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => check_private(&directory)?,
        }
        Ok(directory)
    }

    /// The user's directory for the sockets of all its servers, if it is there and private.
    pub(crate) fn existing(&self) -> Option<PathBuf> {
        let directory = self.shared(user());
        let is_usable = self.check().is_ok() && check_private(&directory).is_ok();
        is_usable.then_some(directory)
    }

    /// A new private directory, for one process: for use where the shared one is not private.
    pub(crate) fn make_fresh(&self, random: u64) -> io::Result<FreshDirectory> {
        self.check()?;
        self.remove_left_over();
        let user = user();
        let path = self.path.join(format!("crucial-{user}.{random:016x}"));
        DirBuilder::new().mode(0o700).create(&path)?;
        let directory = FreshDirectory(path);
        check_private(&directory.0)?;
        Ok(directory)
    }

    /// Removes fresh directories of processes that were killed.
    fn remove_left_over(&self) {
        let prefix = format!("crucial-{}.", user());
        let Ok(entries) = fs::read_dir(&self.path) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let is_fresh = name.to_str().is_some_and(|name| name.starts_with(&prefix));
            if is_fresh && check_private(&entry.path()).is_ok() {
                // An empty one may belong to a process that is about to listen there.
                let removed = crate::socket::remove_stale(&entry.path()).unwrap_or(0);
                if removed > 0 {
                    let _ = fs::remove_dir(entry.path());
                }
            }
        }
    }

    /// Whether no other user can replace what this user makes here.
    fn check(&self) -> io::Result<()> {
        if !self.path.is_absolute() {
            return Err(refused("the path is not absolute"));
        }
        let metadata = fs::metadata(&self.path)?;
        let (owner, mode) = (metadata.uid(), metadata.mode());
        let user = user();
        if !metadata.is_dir() {
            return Err(refused("not a directory"));
        }
        if owner != user && owner != 0 {
            return Err(refused(format!("belongs to user {owner}, not to {user}")));
        }
        if mode & 0o022 != 0 && mode & 0o1000 == 0 {
            let mode = mode & 0o7777;
            return Err(refused(format!(
                "other users can replace its files (mode {mode:04o})"
            )));
        }
        Ok(())
    }
}

/// Whether a directory is one that only this user can enter.
///
/// # Errors
///
/// Why not: a symbolic link, no directory, another user's, or with permissions for others.
pub fn check_private(directory: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(directory)?;
    privacy(&metadata, user()).map_err(|why| {
        let directory = directory.display();
        refused(format!("{directory} {why}"))
    })
}

fn privacy(metadata: &Metadata, user: u32) -> Result<(), String> {
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o777);
    if metadata.is_symlink() {
        return Err("is a symbolic link".to_owned());
    }
    if !metadata.is_dir() {
        return Err("is not a directory".to_owned());
    }
    if owner != user {
        return Err(format!("belongs to user {owner}, not to {user}"));
    }
    if mode != 0o700 {
        return Err(format!("has mode {mode:04o}, not 0700"));
    }
    Ok(())
}

fn refused(why: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, why.into())
}

/// A directory of one process, removed when dropped.
#[derive(Debug)]
pub struct FreshDirectory(PathBuf);

impl FreshDirectory {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for FreshDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn refusal<T: fmt::Debug>(result: io::Result<T>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn settings_are_tried_in_turn() {
        let names = |runtime: Option<&str>, temporary: Option<&str>| {
            let bases = bases_of(runtime.map(Into::into), temporary.map(Into::into));
            bases.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names(None, None), ["/tmp"]);
        assert_eq!(names(Some(""), Some("")), ["/tmp"]);
        assert_eq!(names(None, Some("/tmp")), ["TMPDIR=/tmp"]);
        let all = ["XDG_RUNTIME_DIR=/run/user/1", "TMPDIR=/var/t", "/tmp"];
        assert_eq!(names(Some("/run/user/1"), Some("/var/t")), all);
    }

    #[test]
    fn a_directory_that_others_can_enter_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let base = Base::at(parent.path());
        let directory = base.make().unwrap();
        assert_eq!(base.make().unwrap(), directory, "there already");
        assert_eq!(base.existing(), Some(directory.clone()));

        for mode in [0o777, 0o750, 0o701, 0o500] {
            set_mode(&directory, mode);
            let why = refusal(base.make());
            assert!(why.contains(&format!("mode {mode:04o}")), "{why}");
            assert_eq!(base.existing(), None);
        }
        set_mode(&directory, 0o700);
        if user() == 0 {
            chown(&directory, Some(1), None).unwrap();
            let why = refusal(base.make());
            assert!(why.contains("belongs to user 1"), "{why}");
        }
        fs::remove_dir(&directory).unwrap();

        let elsewhere = tempfile::tempdir().unwrap();
        symlink(elsewhere.path(), &directory).unwrap();
        assert!(refusal(base.make()).contains("symbolic link"));
        assert_eq!(base.existing(), None);
        fs::remove_file(&directory).unwrap();

        fs::write(&directory, "").unwrap();
        assert!(refusal(base.make()).contains("not a directory"));
    }

    #[test]
    fn a_base_in_which_others_can_replace_files_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let base = Base::at(parent.path());
        set_mode(parent.path(), 0o777);
        assert!(refusal(base.make()).contains("mode 0777"));
        set_mode(parent.path(), 0o1777);
        base.make().unwrap();

        let missing = Base::at(&parent.path().join("missing"));
        assert_eq!(missing.make().unwrap_err().kind(), ErrorKind::NotFound);
        let relative = Base::at(Path::new("tmp"));
        assert!(refusal(relative.make()).contains("not absolute"));
        if user() == 0 {
            chown(parent.path(), Some(1), None).unwrap();
            assert!(refusal(base.make()).contains("belongs to user 1"));
        }
    }

    #[test]
    fn a_fresh_directory_is_used_once() {
        let parent = tempfile::tempdir().unwrap();
        let base = Base::at(parent.path());
        let fresh = base.make_fresh(1).unwrap();
        let path = fresh.path().to_owned();
        check_private(&path).unwrap();
        assert_eq!(
            base.make_fresh(1).unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        drop(fresh);
        assert!(!path.exists());
    }

    #[test]
    fn fresh_directories_of_killed_processes_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let base = Base::at(parent.path());
        let listen = |random| {
            let fresh = base.make_fresh(random).unwrap();
            let socket = crate::names::embedded(fresh.path(), 1, random);
            let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
            (fresh, listener)
        };
        let (live, _listener) = listen(1);
        let (killed, listener) = listen(2);
        drop(listener);
        let killed = std::mem::ManuallyDrop::new(killed);
        let empty = base.make_fresh(3).unwrap();
        assert!(!killed.path().exists());
        assert!(live.path().exists() && empty.path().exists());
    }
}
