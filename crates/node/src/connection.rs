//! A connection, as the node knows it: who is at the other end. Its socket and buffers belong to the shell.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use crucial_proto::frame::peer;

use crate::ids::ConnectionId;
use crate::replication::{Incarnation, NodeId};
use crate::session::Session;
use crate::sync::{AtomicBool, AtomicU64};

/// Another server, at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct PeerConnection {
    /// The handshake that opened it.
    pub hello: peer::Hello,
    /// Whether this server dialed.
    pub is_outgoing: bool,
}

impl PeerConnection {
    /// The other server.
    pub fn node(&self) -> NodeId {
        NodeId(match (self.is_outgoing, self.hello.to) {
            (true, Some((node, _))) => node,
            _ => self.hello.from,
        })
    }

    /// The incarnation of the other server.
    pub fn incarnation(&self) -> Incarnation {
        Incarnation(match (self.is_outgoing, self.hello.to) {
            (true, Some((_, incarnation))) => incarnation,
            _ => self.hello.incarnation,
        })
    }
}

/// A connection of a client or of another server.
#[derive(Debug)]
pub struct Connection {
    /// Its name in inputs and outputs.
    pub id: ConnectionId,
    session: OnceLock<Arc<Session>>,
    peer: OnceLock<PeerConnection>,
    /// The version of the routes by which its client sends the requests that come now.
    routes: AtomicU64,
    closed: AtomicBool,
}

impl Connection {
    /// A connection before its handshake.
    pub fn new(id: ConnectionId) -> Arc<Connection> {
        Arc::new(Connection {
            id,
            session: OnceLock::new(),
            peer: OnceLock::new(),
            routes: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        })
    }

    /// A connection to another server, which has been greeted already.
    pub fn to_peer(id: ConnectionId, hello: peer::Hello) -> Arc<Connection> {
        let connection = Connection::new(id);
        let peer = PeerConnection {
            hello,
            is_outgoing: true,
        };
        // A new connection has no peer yet.
        let _ = connection.peer.set(peer);
        connection
    }

    /// The session of the client at the other end, after its handshake.
    pub fn session(&self) -> Option<&Arc<Session>> {
        self.session.get()
    }

    /// The server at the other end, after its handshake.
    pub fn peer(&self) -> Option<&PeerConnection> {
        self.peer.get()
    }

    /// Whether either handshake was made.
    pub fn is_known(&self) -> bool {
        self.session.get().is_some() || self.peer.get().is_some()
    }

    /// Makes it a client's; false if a handshake was made before.
    pub(crate) fn set_session(&self, session: Arc<Session>) -> bool {
        self.peer.get().is_none() && self.session.set(session).is_ok()
    }

    /// Makes it another server's; false if a handshake was made before.
    pub(crate) fn set_peer(&self, peer: PeerConnection) -> bool {
        self.session.get().is_none() && self.peer.set(peer).is_ok()
    }

    /// The version of the routes by which requests come now.
    pub(crate) fn routes(&self) -> u64 {
        self.routes.load(Ordering::Relaxed)
    }

    /// Requests that follow are sent by routes of this version.
    pub(crate) fn set_routes(&self, version: u64) {
        // Not the greatest: the server may have been restarted as another cluster, whose versions are lower.
        self.routes.store(version, Ordering::Relaxed);
    }

    /// Whether it was closed by either end.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn set_closed(&self) {
        self.closed.store(true, Ordering::Release);
    }
}
