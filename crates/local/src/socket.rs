//! Unix sockets: bound, connected to, and removed.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use crate::names::{is_own, user};

/// How long another process may have a directory locked.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// A bound socket, whose file is removed when dropped.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: UnixListener,
    /// Its file; `None` for a socket without one.
    pub file: Option<SocketFile>,
}

/// The file of a bound socket, removed when dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// Device, number, and time of the last change of the content: numbers are used again.
type Identity = (u64, u64, i64, i64);

fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = fs::symlink_metadata(path)?;
    let changed = (metadata.mtime(), metadata.mtime_nsec());
    Ok((metadata.dev(), metadata.ino(), changed.0, changed.1))
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile {
            path: path.to_owned(),
            identity: identity(path)?,
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed the file, and another server may have bound its own.
        if identity(&self.path).is_ok_and(|there| there == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds a socket and listens. A path that begins with `@` names an abstract socket, which has no file. The socket of a
/// server that was killed is replaced; any other file stays.
///
/// # Errors
///
/// That of the operating system; [`ErrorKind::AddrInUse`] if there is a file.
pub fn bind(path: &Path) -> io::Result<Listener> {
    if let Some(address) = abstract_address(path)? {
        return Ok(Listener {
            socket: UnixListener::bind_addr(&address)?,
            file: None,
        });
    }
    // Between the moments when a server binds and when it listens its socket looks stale.
    let lock = lock(parent(path));
    let socket = match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            lock?;
            if !is_stale(path) {
                return Err(in_use(path));
            }
            fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    let file = Some(SocketFile::of(path)?);
    Ok(Listener { socket, file })
}

/// Why no server can be reached at a path, now and later; `None` if one may be.
pub fn never_a_server(path: &Path) -> Option<&'static str> {
    if abstract_address(path).is_ok_and(|address| address.is_some()) {
        return None;
    }
    let there = fs::metadata(path).ok()?.file_type();
    match () {
        () if there.is_socket() => None,
        () if there.is_dir() => Some("it is a directory, and no socket"),
        () => Some("it is another file, and no socket"),
    }
}

fn in_use(path: &Path) -> io::Error {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket());
    let why = match is_socket {
        true => "a server listens there",
        false => "there is another file, which a server does not remove",
    };
    io::Error::new(ErrorKind::AddrInUse, why)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Locks a directory: servers bind sockets and remove stale ones one at a time.
fn lock(directory: &Path) -> io::Result<File> {
    let file = File::open(directory)?;
    let start = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if start.elapsed() < LOCK_PATIENCE => {
                // A wait for the lock has no time limit, and other programs may lock a directory for long.
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => {
                let directory = directory.display();
                return Err(io::Error::new(
                    io::Error::from(error).kind(),
                    format!("cannot lock {directory}: {error}"),
                ));
            }
        }
    }
}

/// Removes the sockets of this user's servers that were killed, and tells their number.
pub(crate) fn remove_stale(directory: &Path) -> io::Result<usize> {
    let _lock = lock(directory)?;
    let mut removed = 0;
    for entry in fs::read_dir(directory)?.flatten() {
        let path = entry.path();
        if is_own(&path) && is_stale(&path) {
            fs::remove_file(&path)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether a file is a socket on which nothing listens: connecting to it is refused. A server that is stopped has a
/// queue of connections, which may be full; so this does not block.
fn is_stale(path: &Path) -> bool {
    // Connecting to a file of another kind is refused, too.
    let is_socket = fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket());
    is_socket && probe(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

fn probe(path: &Path) -> io::Result<()> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?)
}

/// Connects to a socket. Blocks while a server that is stopped has too many connections waiting.
///
/// # Errors
///
/// That of the operating system; [`ErrorKind::PermissionDenied`] if another user listens at a socket of this user's.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let stream = match abstract_address(path)? {
        Some(address) => UnixStream::connect_addr(&address)?,
        None => UnixStream::connect(path)?,
    };
    if is_own(path) {
        check_peer(&stream)?;
    }
    Ok(stream)
}

/// Makes sure that the process at the other end is this user's, or the superuser's.
///
/// # Errors
///
/// [`ErrorKind::PermissionDenied`] for another user's.
pub fn check_peer(socket: impl AsFd) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let peer = rustix::net::sockopt::socket_peercred(socket)?.uid.as_raw();
        let user = user();
        if peer != user && peer != 0 {
            return Err(io::Error::new(
                ErrorKind::PermissionDenied,
                format!("the other end is of user {peer}, and this socket is for user {user} only"),
            ));
        }
    }
    // Elsewhere the directory alone keeps others out, and there are no sockets without one.
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
    Ok(())
}

fn abstract_address(path: &Path) -> io::Result<Option<std::os::unix::net::SocketAddr>> {
    use std::os::unix::ffi::OsStrExt;
    let Some(name) = path.as_os_str().as_bytes().strip_prefix(b"@") else {
        return Ok(None);
    };
    #[cfg(target_os = "linux")]
    {
        use std::os::linux::net::SocketAddrExt;
        std::os::unix::net::SocketAddr::from_abstract_name(name).map(Some)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = name;
        let why = "sockets without a file exist on Linux only";
        Err(io::Error::new(ErrorKind::Unsupported, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names;

    #[test]
    fn only_stale_sockets_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let killed = names::embedded(directory, 1, 2);
        drop(UnixListener::bind(&killed).unwrap());
        // No process of this machine has the number: the server may be one of another container.
        let live = names::embedded(directory, u32::MAX, 3);
        let _listener = UnixListener::bind(&live).unwrap();
        let others = ["tcp-1-127.0.0.1-7.sock", "embedded-notes", "other.sock"];
        let others = others.map(|name| directory.join(name));
        fs::write(&others[0], "no socket").unwrap();
        fs::write(&others[1], "no socket").unwrap();
        drop(UnixListener::bind(&others[2]).unwrap());

        assert_eq!(remove_stale(directory).unwrap(), 1);
        assert!(!killed.exists() && live.exists());
        assert!(others.iter().all(|path| path.exists()));
    }

    #[test]
    fn only_the_socket_of_a_killed_server_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server");
        drop(UnixListener::bind(&path).unwrap());
        let listener = bind(&path).unwrap();
        let error = bind(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains("a server listens there"));
        connect(&path).unwrap();
        drop(listener);
        assert!(!path.exists());

        let target = directory.path().join("target");
        fs::write(&target, "precious").unwrap();
        fs::create_dir(directory.path().join("directory")).unwrap();
        std::os::unix::fs::symlink(&target, directory.path().join("link")).unwrap();
        let dead = directory.path().join("dead");
        drop(UnixListener::bind(&dead).unwrap());
        std::os::unix::fs::symlink(&dead, directory.path().join("link to a socket")).unwrap();
        let datagrams = directory.path().join("datagrams");
        let _socket = std::os::unix::net::UnixDatagram::bind(&datagrams).unwrap();
        for name in [
            "target",
            "directory",
            "link",
            "link to a socket",
            "datagrams",
        ] {
            let path = directory.path().join(name);
            let error = bind(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse, "{name}");
            assert!(fs::symlink_metadata(&path).is_ok(), "{name}");
        }
        assert_eq!(fs::read(&target).unwrap(), b"precious");
    }

    #[test]
    fn a_file_of_another_server_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server");
        let first = bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let second = bind(&path).unwrap();
        drop(first);
        connect(&path).unwrap();
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn the_socket_of_a_server_that_is_about_to_listen_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server");
        let starting = lock(directory.path()).unwrap();
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        assert!(is_stale(&path), "nobody can tell from the socket");
        let error = bind(&path).unwrap_err();
        assert!(error.to_string().contains("cannot lock"), "{error}");
        assert!(path.exists());
        rustix::net::listen(&socket, 1).unwrap();
        drop(starting);
        assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        connect(&path).unwrap();
    }

    #[test]
    fn servers_that_start_at_once_do_not_remove_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server");
        for _ in 0..50 {
            drop(UnixListener::bind(&path).unwrap());
            let listening = thread::scope(|scope| {
                let servers = [0; 4].map(|_| scope.spawn(|| bind(&path).ok()));
                servers.map(|server| server.join().unwrap())
            });
            let one = listening.iter().flatten().count();
            assert_eq!(one, 1, "one of them has the place");
            connect(&path).unwrap();
        }
    }
}
