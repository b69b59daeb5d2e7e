//! Where a server listens.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener, ToSocketAddrs};
use std::path::Path;

use crucial_local::{SocketFile, check_peer, is_own, tcp};
use crucial_proto::Endpoint;
use mio::net::{TcpListener, UnixListener};

use crate::socket::Stream;
use crate::start::StartError;

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
                let (bound, also_ipv4) = self.listen_tcp(host, *port).map_err(refused)?;
                self.endpoints.push(Endpoint::Tcp {
                    host: host.clone(),
                    port: bound.port(),
                });
                self.listen_locally(bound, also_ipv4);
            }
        }
        Ok(())
    }

    /// Listens where clients on this machine look for the server of a TCP address. A comfort, not a promise: they fall
    /// back to TCP.
    fn listen_locally(&mut self, bound: SocketAddr, also_ipv4: bool) {
        let result = tcp::of_server(bound, also_ipv4)
            .and_then(|paths| paths.iter().try_for_each(|path| self.listen_unix(path)));
        if let Err(error) = result {
            tracing::warn!(%error, address = %bound, "no local socket: clients on this machine use TCP");
        }
    }

    /// The address that was bound, and whether it is one of IPv6 that answers to IPv4, too.
    fn listen_tcp(&mut self, host: &str, port: u16) -> io::Result<(SocketAddr, bool)> {
        let addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
        let listener = StdTcpListener::bind(&addresses[..])?;
        listener.set_nonblocking(true)?;
        let bound = listener.local_addr()?;
        let is_any_ipv6 = bound.is_ipv6() && bound.ip().is_unspecified();
        let also_ipv4 = is_any_ipv6 && !rustix::net::sockopt::ipv6_v6only(&listener)?;
        self.listeners
            .push(Listener::Tcp(TcpListener::from_std(listener)));
        Ok((bound, also_ipv4))
    }

    fn listen_unix(&mut self, path: &Path) -> io::Result<()> {
        let bound = crucial_local::bind(path)?;
        bound.socket.set_nonblocking(true)?;
        self.listeners.push(Listener::Unix {
            socket: UnixListener::from_std(bound.socket),
            is_own: is_own(path),
        });
        self.files.extend(bound.file);
        Ok(())
    }
}

/// A bound socket.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix {
        socket: UnixListener,
        /// Serves this user only.
        is_own: bool,
    },
}

impl Listener {
    pub fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Listener::Unix { socket, is_own } => {
                let (stream, _) = socket.accept()?;
                if *is_own && let Err(error) = check_peer(&stream) {
                    tracing::debug!(%error, "a connection of another user");
                    // The listener goes on to the next connection.
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                Ok(Stream::Unix(stream))
            }
        }
    }

    pub fn source(&mut self) -> &mut dyn mio::event::Source {
        match self {
            Listener::Tcp(listener) => listener,
            Listener::Unix { socket, .. } => socket,
        }
    }
}
