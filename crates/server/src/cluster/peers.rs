//! The connections to the other servers of the cluster. On each one side speaks: who has connected.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use crucial_cluster::{Incarnation, Message, NodeId, PartitionId, View, ViewVersion};
use crucial_core::frame::{self, peer};
use crucial_object::{Error, encode_into};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;

use super::Cluster;
use crate::connection::{Connection, Other, Stream};
use crate::service::{Effects, Service};

/// How long a connection may take to be made, and the other server to say welcome.
const DIAL_TIMEOUT: Duration = Duration::from_millis(1000);

/// How soon to dial again.
const DIAL_PAUSE: Duration = Duration::from_millis(100);

/// To a server that takes nothing any more nothing is said above this. What is lost is said again.
const UNSENT_BYTES_MAX: usize = 256 << 20;

/// Longest welcome.
const WELCOME_BYTES_MAX: usize = 4096;

#[derive(Default)]
pub(super) struct Peers {
    others: RwLock<BTreeMap<NodeId, Arc<Peer>>>,
    /// On which others speak to this server.
    incoming: Mutex<Vec<Weak<Connection>>>,
}

struct Peer {
    node: NodeId,
    incarnation: Incarnation,
    address: String,
    link: Mutex<Link>,
}

enum Link {
    Down {
        until: Instant,
    },
    Dialing,
    Up(Arc<Connection>),
    /// It is no member any more.
    Over,
}

impl Peers {
    /// Says something to another server, and of which view this one has heard. If it is not connected that is lost.
    pub fn send(
        &self,
        to: NodeId,
        (partition, heard): (PartitionId, ViewVersion),
        message: &Message,
        effects: &mut Effects<'_>,
    ) {
        let peer = self.others.read().get(&to).cloned();
        let Some(peer) = peer else { return };
        let connection = match &*peer.link.lock() {
            Link::Up(connection) => connection.clone(),
            _ => return,
        };
        if connection.unsent() > UNSENT_BYTES_MAX {
            return;
        }
        let encode = |out: &mut Vec<u8>| encode_into(&(partition, heard, message), out);
        connection.append(|out| peer::write_messages(out, encode));
        effects.mark_shared(&connection);
    }

    /// Takes up who is a member.
    pub fn update(&self, view: &View, me: NodeId) {
        let mut others = self.others.write();
        others.retain(|node, peer| {
            let stays = view.members.get(node).is_some_and(|member| {
                member.incarnation == peer.incarnation && member.address == peer.address
            });
            if !stays {
                peer.end();
            }
            stays
        });
        for (node, member) in &view.members {
            if *node != me && !others.contains_key(node) {
                let peer = Peer {
                    node: *node,
                    incarnation: member.incarnation,
                    address: member.address.clone(),
                    link: Mutex::new(Link::Down {
                        until: Instant::now(),
                    }),
                };
                others.insert(*node, Arc::new(peer));
            }
        }
    }

    /// Connects to those that are not connected.
    pub fn dial(&self, service: &Arc<Service>, cluster: &Cluster) {
        for peer in self.others.read().values() {
            let mut link = peer.link.lock();
            match *link {
                Link::Down { until } if until <= Instant::now() => *link = Link::Dialing,
                _ => continue,
            }
            drop(link);
            let hello = peer::Hello {
                cluster: cluster.cluster(),
                from: cluster.me.0,
                incarnation: cluster.incarnation().0,
                to: Some((peer.node.0, peer.incarnation.0)),
            };
            let (peer_, service) = (peer.clone(), service.clone());
            let dialing = std::thread::Builder::new()
                .name("crucial-dial".to_owned())
                .spawn(move || peer_.dial(&service, hello));
            if let Err(error) = dialing {
                tracing::error!(%error, "no thread to connect to another server");
                *peer.link.lock() = down();
            }
        }
    }

    /// Another server has connected to this one.
    pub fn came(&self, connection: &Arc<Connection>) {
        let mut incoming = self.incoming.lock();
        incoming.retain(|connection| connection.strong_count() > 0);
        incoming.push(Arc::downgrade(connection));
    }

    /// A connection is closed.
    pub fn went(&self, connection: &Arc<Connection>, other: &Other) {
        if !other.is_outgoing {
            return;
        }
        if let Some((node, _)) = other.hello.to
            && let Some(peer) = self.others.read().get(&NodeId(node))
        {
            let mut link = peer.link.lock();
            if matches!(&*link, Link::Up(present) if Arc::ptr_eq(present, connection)) {
                *link = down();
            }
        }
    }

    /// Closes all connections.
    pub fn close(&self) {
        for peer in std::mem::take(&mut *self.others.write()).into_values() {
            peer.end();
        }
        for connection in self.incoming.lock().drain(..) {
            if let Some(connection) = connection.upgrade() {
                connection.close();
            }
        }
    }
}

fn down() -> Link {
    Link::Down {
        until: Instant::now() + DIAL_PAUSE,
    }
}

impl Peer {
    fn end(&self) {
        if let Link::Up(connection) = std::mem::replace(&mut *self.link.lock(), Link::Over) {
            connection.close();
        }
    }

    fn dial(&self, service: &Service, hello: peer::Hello) {
        let connected = connect(&self.address, &hello);
        let mut link = self.link.lock();
        if let Link::Over = *link {
            return;
        }
        match connected {
            Ok(stream) => {
                let stream = mio::net::TcpStream::from_std(stream);
                let connection = Connection::new(Stream::Tcp(stream));
                let other = Other {
                    hello,
                    is_outgoing: true,
                };
                // It was made just now.
                let _ = connection.other.set(other);
                *link = Link::Up(connection.clone());
                drop(link);
                service.assign(connection);
            }
            Err(error) => {
                tracing::debug!(address = self.address, %error, "no connection to another server");
                *link = down();
            }
        }
    }
}

fn connect(address: &str, hello: &peer::Hello) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the address stands for nothing");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, DIAL_TIMEOUT) {
            Ok(stream) => return greet(stream, hello),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn greet(mut stream: TcpStream, hello: &peer::Hello) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(DIAL_TIMEOUT))?;
    let mut bytes = Vec::new();
    peer::write_hello(hello, &mut bytes).map_err(io::Error::other)?;
    stream.write_all(&bytes)?;
    // Just the welcome: nothing else comes on this side.
    let mut length = [0; frame::LENGTH_BYTES];
    stream.read_exact(&mut length)?;
    let count = frame::peek_length(&length, WELCOME_BYTES_MAX).map_err(io::Error::other)?;
    let mut buffer = BytesMut::zeroed(count.unwrap_or_default());
    stream.read_exact(&mut buffer)?;
    let answer = peer::decode_frame(buffer.freeze()).map_err(io::Error::other)?;
    let peer::Frame::Welcome(welcome) = answer else {
        return Err(io::Error::other(format!("it answers {answer:?}")));
    };
    if hello.to != Some((welcome.node, welcome.incarnation)) {
        return Err(io::Error::other("another server answers there"));
    }
    stream.set_read_timeout(None)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

impl Service {
    /// Another server says who it is. An error closes the connection.
    pub fn hello_peer(
        &self,
        connection: &Arc<Connection>,
        version: u16,
        hello: Option<peer::Hello>,
    ) -> Result<(), Error> {
        let refuse = |detail: String| Err(Error::Protocol { detail });
        let Some(hello) = hello else {
            return refuse(format!(
                "the other server speaks version {version}, this one version {}: run the same release on all",
                frame::VERSION
            ));
        };
        let Some(cluster) = &self.cluster else {
            return refuse(
                "this server runs alone, and takes no others in: start it with --data DIRECTORY"
                    .to_owned(),
            );
        };
        let (ours, me) = (cluster.cluster(), (cluster.me.0, cluster.incarnation().0));
        if hello.cluster != 0 && ours != 0 && hello.cluster != ours {
            return refuse(format!(
                "this server belongs to the cluster {ours:016x}, and the other one to {:016x}",
                hello.cluster
            ));
        }
        if hello.to.is_some_and(|to| to != me) {
            return refuse("another server, or another life of it, was here before".to_owned());
        }
        let other = Other {
            hello,
            is_outgoing: false,
        };
        if connection.is_known() || connection.other.set(other).is_err() {
            return refuse("a second hello on one connection".to_owned());
        }
        let welcome = peer::Welcome {
            cluster: ours,
            node: me.0,
            incarnation: me.1,
            frame_bytes_max: self.limits.peer_frame_bytes_max as u64,
        };
        connection.append(|out| peer::write_welcome(&welcome, out));
        cluster.peers.came(connection);
        if cluster.incarnation().0 != me.1 {
            // A new life has begun meanwhile.
            connection.close();
        }
        Ok(())
    }

    /// Takes in what another server says; gives what takes time as a job.
    pub fn accept_peer(
        &self,
        connection: Arc<Connection>,
        frame: peer::Frame,
    ) -> Option<crate::service::Job> {
        let other = *connection.other.get()?;
        let cluster = self.cluster.as_ref()?;
        match frame {
            peer::Frame::Messages(bytes) => Some(crate::service::Job::Peer(connection, bytes)),
            peer::Frame::Ask { id, body } => {
                let Some(control) = cluster.control.get() else {
                    connection.close();
                    return None;
                };
                let answer = Box::new(move |body: Vec<u8>| {
                    connection.append(|out| peer::write_answer(id, &body, out));
                    connection.flush();
                });
                control.handle(&other.hello, body, answer);
                None
            }
            peer::Frame::Refused(error) => {
                tracing::warn!(node = %other.node(), %error, "another server refuses");
                connection.close();
                None
            }
            _ => None,
        }
    }

    /// What another server says about partitions.
    pub fn messages(&self, connection: &Arc<Connection>, bytes: &[u8], effects: &mut Effects<'_>) {
        let (Some(cluster), Some(other)) = (&self.cluster, connection.other.get()) else {
            return;
        };
        match crucial_object::decode::<(PartitionId, ViewVersion, Message)>(bytes) {
            Ok((partition, heard, message)) if partition.index() < cluster.shares.len() => {
                self.take_message(
                    cluster,
                    connection,
                    (other.node(), heard),
                    (partition, message),
                    effects,
                );
            }
            Ok(_) => connection.refuse(&Error::Protocol {
                detail: "a partition that there is not".to_owned(),
            }),
            Err(error) => connection.refuse(&Error::Protocol {
                detail: format!("a message about a partition that is none: {error}"),
            }),
        }
    }
}
