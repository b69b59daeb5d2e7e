//! Where a server listens.

use std::fs;
use std::io;
use std::net::{TcpListener as StdTcpListener, ToSocketAddrs};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crucial_core::{Endpoint, local};
use mio::net::{TcpListener, UnixListener};

use crate::socket::Stream;
use crate::start::StartError;

/// The directory of local sockets, made if need be. `None` if somebody else could have put it there.
fn socket_directory() -> Option<PathBuf> {
    let user = rustix::process::getuid().as_raw();
    let directory = local::directory(user);
    // The directory may be there; whether it is ours is checked below.
    let _ = fs::DirBuilder::new().mode(0o700).create(&directory);
    let metadata = fs::symlink_metadata(&directory).ok()?;
    let private =
        metadata.is_dir() && metadata.uid() == user && metadata.permissions().mode() & 0o077 == 0;
    private.then(|| {
        remove_left_over(&directory);
        directory
    })
}

/// A socket file that is older than this and does not answer was left behind.
const LEFT_OVER_AFTER: Duration = Duration::from_secs(60);

/// Removes the sockets of servers that were killed.
fn remove_left_over(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = name
            .to_str()
            .is_some_and(|name| name.starts_with("port-") && name.ends_with(".sock"));
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let old = modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > LEFT_OVER_AFTER));
        if ours && old && is_dead(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A socket file, removed when dropped.
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Sockets that are bound.
#[derive(Default)]
pub(crate) struct Bound {
    pub listeners: Vec<Listener>,
    pub endpoints: Vec<Endpoint>,
    pub files: Vec<SocketFile>,
}

impl Bound {
    /// Listens on one more endpoint.
    pub fn listen(&mut self, endpoint: &Endpoint) -> Result<(), StartError> {
        let refused = |source| StartError::Listen {
            endpoint: endpoint.clone(),
            source,
        };
        match endpoint {
            Endpoint::Unix(path) => {
                self.listen_unix(path).map_err(refused)?;
                self.endpoints.push(endpoint.clone());
            }
            Endpoint::Tcp { host, port } => {
                let port = self.listen_tcp(host, *port).map_err(refused)?;
                self.endpoints.push(Endpoint::Tcp {
                    host: host.clone(),
                    port,
                });
                // A comfort, not a promise: clients fall back to TCP.
                if let Some(path) = socket_directory().map(|d| local::socket(&d, port))
                    && let Err(error) = self.listen_unix(&path)
                {
                    tracing::debug!(%error, path = %path.display(), "no local socket");
                }
            }
        }
        Ok(())
    }

    fn listen_tcp(&mut self, host: &str, port: u16) -> io::Result<u16> {
        let addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
        let listener = StdTcpListener::bind(&addresses[..])?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        self.listeners
            .push(Listener::Tcp(TcpListener::from_std(listener)));
        Ok(port)
    }

    fn listen_unix(&mut self, path: &Path) -> io::Result<()> {
        let listener = match UnixListener::bind(path) {
            // The file may be left over from a server that was killed: nobody answers then.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_dead(path) => {
                fs::remove_file(path)?;
                UnixListener::bind(path)?
            }
            bound => bound?,
        };
        self.listeners.push(Listener::Unix(listener));
        self.files.push(SocketFile(path.to_owned()));
        Ok(())
    }
}

fn is_dead(path: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(path)
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// A bound socket.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    pub fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Listener::Unix(listener) => Ok(Stream::Unix(listener.accept()?.0)),
        }
    }

    pub fn source(&mut self) -> &mut dyn mio::event::Source {
        match self {
            Listener::Tcp(listener) => listener,
            Listener::Unix(listener) => listener,
        }
    }
}
