//! Where a server listens.

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener, ToSocketAddrs};
use std::path::Path;

use crucial_local::{SocketFile, check_peer, is_own, tcp};
use crucial_proto::Endpoint;
use mio::net::{TcpListener, UnixListener};
use rustix::io::Errno;

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
                for (bound, also_ipv4) in self.listen_tcp(host, *port).map_err(refused)? {
                    self.endpoints.push(Endpoint::Tcp {
                        host: bound.ip().to_string(),
                        port: bound.port(),
                    });
                    self.listen_locally(bound, also_ipv4);
                }
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

    /// Listens on all addresses of a host: a client may try any of them. Gives those that were bound, each with whether it is one of
    /// IPv6 that answers to IPv4, too.
    fn listen_tcp(&mut self, host: &str, port: u16) -> io::Result<Vec<(SocketAddr, bool)>> {
        let addresses: BTreeSet<_> = (host, port).to_socket_addrs()?.collect();
        let (mut all, mut port) = (Vec::new(), port);
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for mut address in addresses {
            // Where any port is good, it is the same for all addresses.
            address.set_port(port);
            match self.listen_at(address) {
                Ok(bound) => {
                    port = bound.0.port();
                    all.push(bound);
                }
                // The machine knows the address by its name, and does not have it.
                Err(error) if is_not_here(&error) => failure = error,
                Err(error) => return Err(error),
            }
        }
        match all.is_empty() {
            true => Err(failure),
            false => Ok(all),
        }
    }

    fn listen_at(&mut self, address: SocketAddr) -> io::Result<(SocketAddr, bool)> {
        let listener = StdTcpListener::bind(address)?;
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

fn is_not_here(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || Errno::from_io_error(error) == Some(Errno::AFNOSUPPORT)
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
