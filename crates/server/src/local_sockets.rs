//! The directory in which servers of this user and machine have their Unix sockets.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crucial_proto::local;
use mio::net::UnixStream;

/// A younger socket that refuses connections may be one of a server that is about to listen.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// The directory of local sockets, made if need be, and without the sockets of servers that were killed. An error if another
/// user could have made the directory, or can enter it.
pub fn socket_directory() -> io::Result<PathBuf> {
    let user = rustix::process::getuid().as_raw();
    let directory = local::directory(user);
    make_private(&directory, user).map_err(|error| {
        let directory = directory.display();
        io::Error::new(error.kind(), format!("{directory}: {error}"))
    })?;
    remove_stale(&directory, STALE_AFTER);
    Ok(directory)
}

fn make_private(directory: &Path, user: u32) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let metadata = fs::symlink_metadata(directory)?;
    let (owner, mode) = (metadata.uid(), metadata.permissions().mode());
    if metadata.is_dir() && owner == user && mode & 0o077 == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        "this is no directory that only its user can enter; remove it, or set XDG_RUNTIME_DIR to another place",
    ))
}

/// Removes the sockets of servers that were killed, if they are older than this.
fn remove_stale(directory: &Path, after: Duration) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(local::is_socket);
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let is_old = modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > after));
        if is_ours && is_old && is_stale(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether a file is the socket of a server that was killed: connecting to it is refused. A server that is stopped has a
/// queue of connections, which may be full; so this does not block.
pub(crate) fn is_stale(path: &Path) -> bool {
    let is_socket =
        fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    // Connecting to a file that is no socket is refused, too.
    is_socket
        && UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_sockets_of_servers_that_were_killed_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let killed = [
            local::socket(directory, 7171),
            local::embedded_socket(directory, 1, 2),
        ];
        for path in &killed {
            drop(UnixListener::bind(path).unwrap());
        }
        let live = [
            local::socket(directory, 7172),
            local::embedded_socket(directory, std::process::id(), 3),
        ];
        let _listeners = live
            .each_ref()
            .map(|path| UnixListener::bind(path).unwrap());
        let others = ["port-7173.sock", "embedded-notes", "other.sock"];
        let others = others.map(|name| directory.join(name));
        fs::write(&others[0], "no socket").unwrap();
        fs::write(&others[1], "no socket").unwrap();
        drop(UnixListener::bind(&others[2]).unwrap());

        remove_stale(directory, STALE_AFTER);
        assert!(killed.iter().all(|path| path.exists()), "too young");
        remove_stale(directory, Duration::ZERO);
        assert!(!killed.iter().any(|path| path.exists()));
        assert!(live.iter().chain(&others).all(|path| path.exists()));
    }

    #[test]
    fn a_directory_that_others_can_enter_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("crucial-1");
        let user = rustix::process::getuid().as_raw();
        for _ in ["made", "there already"] {
            make_private(&directory, user).unwrap();
        }
        let refused = |path: &Path, user| {
            let error = make_private(path, user).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
        };
        refused(&directory, user + 1);
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(&directory, &link).unwrap();
        refused(&link, user);
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o750)).unwrap();
        refused(&directory, user);
    }
}
