//! Where a server listens.

use std::fs;
use std::io;
use std::net::{TcpListener as StdTcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};

use crucial_proto::{Endpoint, local};
use mio::net::{TcpListener, UnixListener};

use crate::local_sockets::{is_stale, socket_directory};
use crate::socket::Stream;
use crate::start::StartError;

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
                let bound = socket_directory()
                    .and_then(|directory| self.listen_unix(&local::socket(&directory, port)));
                if let Err(error) = bound {
                    tracing::debug!(%error, port, "no local socket");
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
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
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
