//! The other servers: whether they are connected, and the messages that queue for them.
//!
//! Messages of a partition are queued under its lock, so that their order is that of its decisions. They are encoded later,
//! outside of any partition's lock: [`Peers::drain`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};

use crucial_object::encode_into;
use crucial_proto::frame::peer;

use crate::connection::Connection;
use crate::ids::{ConnectionId, DialId, Millis};
use crate::outputs::{Output, Outputs};
use crate::peer_message::PeerMessage;
use crate::replication::{Incarnation, NodeId, View};
use crate::sync::{AtomicU64, LockMutant, Mutex, RwLock};
use crate::types::name_hash;

/// How soon to dial again, in milliseconds.
const DIAL_PAUSE_MS: Millis = 100;

/// Above this many bytes in a peer's queue further messages are dropped. What is lost is sent again.
const QUEUE_BYTES_MAX: usize = 256 << 20;

/// How many bytes are encoded before they are handed to the connection.
const BATCH_BYTES: usize = 256 << 10;

#[derive(Default)]
pub(crate) struct Peers {
    others: RwLock<BTreeMap<NodeId, Arc<Peer>>>,
    /// Connections on which other servers send to this one.
    incoming: Mutex<Vec<Weak<Connection>>>,
    /// Counts the attempts to connect.
    dials: AtomicU64,
}

/// What has come to an end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ended {
    /// The attempt has failed.
    Dial(DialId),
    /// The connection is closed.
    Connection(ConnectionId),
}

struct Peer {
    incarnation: Incarnation,
    address: String,
    /// Which types are linked into it, once it has said so.
    types: OnceLock<BTreeSet<u64>>,
    queue: Mutex<Queue>,
}

struct Queue {
    link: Link,
    messages: VecDeque<PeerMessage>,
    bytes: usize,
    /// A thread encodes messages. Others leave theirs to it.
    is_draining: bool,
}

#[derive(Clone, Copy, Debug)]
enum Link {
    Down {
        until: Millis,
    },
    Dialing(DialId),
    Up(ConnectionId),
    /// The server is no member any more.
    Over,
}

impl Peers {
    /// Queues a message for another server. It is lost if the other one is not connected.
    pub fn send(&self, to: NodeId, message: PeerMessage, out: &mut Outputs) {
        let others = self.others.read();
        let Some(peer) = others.get(&to) else { return };
        let mut queue = peer.queue.lock();
        if !matches!(queue.link, Link::Up(_)) || queue.bytes > QUEUE_BYTES_MAX {
            return;
        }
        queue.bytes += message.size();
        queue.messages.push_back(message);
        let is_draining = queue.is_draining;
        drop(queue);
        if !is_draining {
            out.push(Output::PeerReady(to));
        }
    }

    /// Encodes the queued messages for another server, and hands frames to the connection by `write` while it `has_room`.
    /// The rest stays queued until [`Node::on_drained`](crate::Node::on_drained).
    pub fn drain(
        &self,
        to: NodeId,
        has_room: impl Fn(ConnectionId) -> bool,
        mut write: impl FnMut(ConnectionId, &[u8]),
    ) {
        let Some(peer) = self.others.read().get(&to).cloned() else {
            return;
        };
        let mut frames = Vec::new();
        let mut queue = peer.queue.lock();
        if queue.is_draining {
            return;
        }
        // Room is asked for under the lock and while nobody drains. A connection that gets room after that finds either room
        // or a queue that nobody drains.
        while let (Link::Up(connection), false) = (queue.link, queue.messages.is_empty())
            && has_room(connection)
        {
            let mut batch = VecDeque::new();
            let mut bytes = 0;
            while bytes < BATCH_BYTES
                && let Some(entry) = queue.messages.pop_front()
            {
                bytes += entry.size();
                batch.push_back(entry);
            }
            queue.bytes = queue.bytes.saturating_sub(bytes);
            queue.is_draining = true;
            drop(queue);
            for message in &batch {
                let encode = |out: &mut Vec<u8>| encode_into(message, out);
                if let Err(error) = peer::write_messages(&mut frames, encode) {
                    tracing::error!(%error, "a message could not be encoded");
                }
            }
            write(connection, &frames);
            frames.clear();
            queue = peer.queue.lock();
            queue.is_draining = false;
            // Another thread may have found this one at work, and left it messages for a newer connection.
            if LockMutant::PeerForgotten.is_planted() && !has_room(connection) {
                return;
            }
        }
    }

    /// Takes up who is a member. Gives the connections of those that are no members any more.
    pub fn on_view(&self, view: &View, me: NodeId) -> Vec<ConnectionId> {
        let mut others = self.others.write();
        let mut closed = Vec::new();
        others.retain(|node, peer| {
            let stays = view.members.get(node).is_some_and(|member| {
                member.incarnation == peer.incarnation && member.address == peer.address
            });
            if !stays {
                closed.extend(peer.end());
            }
            stays
        });
        for (node, member) in &view.members {
            if *node != me && !others.contains_key(node) {
                let peer = Peer {
                    incarnation: member.incarnation,
                    address: member.address.clone(),
                    types: OnceLock::new(),
                    queue: Mutex::new(Queue {
                        link: Link::Down { until: 0 },
                        messages: VecDeque::new(),
                        bytes: 0,
                        is_draining: false,
                    }),
                };
                others.insert(*node, Arc::new(peer));
            }
        }
        closed
    }

    /// Whether there are other servers.
    pub fn is_empty(&self) -> bool {
        self.others.read().is_empty()
    }

    /// Dials those that are not connected.
    pub fn dial(&self, now: Millis, out: &mut Outputs) {
        for (node, peer) in &*self.others.read() {
            let mut queue = peer.queue.lock();
            let dial = match queue.link {
                Link::Down { until } if until <= now => {
                    DialId(self.dials.fetch_add(1, Ordering::Relaxed))
                }
                _ => continue,
            };
            queue.link = Link::Dialing(dial);
            drop(queue);
            out.push(Output::Dial {
                dial,
                node: *node,
                incarnation: peer.incarnation,
                address: peer.address.clone(),
            });
        }
    }

    /// A dialed server has answered; false if the connection is not wanted any more.
    pub fn on_up(&self, node: NodeId, dial: DialId, connection: ConnectionId) -> bool {
        let others = self.others.read();
        let Some(peer) = others.get(&node) else {
            return false;
        };
        let mut queue = peer.queue.lock();
        match queue.link {
            Link::Dialing(present) if present == dial => {
                queue.link = Link::Up(connection);
                true
            }
            _ => false,
        }
    }

    /// A dialed server has not answered, or its connection is closed.
    pub fn on_down(&self, node: NodeId, ended: Ended, now: Millis) {
        let others = self.others.read();
        let Some(peer) = others.get(&node) else {
            return;
        };
        let mut queue = peer.queue.lock();
        let is_meant = match (queue.link, ended) {
            (Link::Dialing(present), Ended::Dial(failed)) => present == failed,
            (Link::Up(present), Ended::Connection(closed)) => present == closed,
            _ => false,
        };
        if is_meant {
            queue.link = Link::Down {
                until: now + DIAL_PAUSE_MS,
            };
            queue.messages.clear();
            queue.bytes = 0;
        }
    }

    /// Another server has said which types are linked into it.
    pub fn set_types(&self, (node, incarnation): (NodeId, Incarnation), types: BTreeSet<u64>) {
        let others = self.others.read();
        let peer = others.get(&node);
        if let Some(peer) = peer.filter(|peer| peer.incarnation == incarnation) {
            // The executable of an incarnation does not change.
            let _ = peer.types.set(types);
        }
    }

    /// The address of the first of these servers that has said that it lacks a type.
    pub fn find_without(&self, nodes: &[NodeId], type_name: &str) -> Option<String> {
        let others = self.others.read();
        let hash = name_hash(type_name);
        let mut peers = nodes.iter().filter_map(|node| others.get(node));
        let lacks =
            |peer: &&Arc<Peer>| peer.types.get().is_some_and(|types| !types.contains(&hash));
        peers.find(lacks).map(|peer| peer.address.clone())
    }

    /// Another server has connected to this one.
    pub fn on_incoming(&self, connection: &Arc<Connection>) {
        let mut incoming = self.incoming.lock();
        incoming.retain(|connection| connection.strong_count() > 0);
        incoming.push(Arc::downgrade(connection));
    }

    /// Forgets all other servers. Gives the connections, which have to be closed: nothing that comes on them is taken any
    /// more.
    pub fn clear(&self) -> Vec<ConnectionId> {
        let others = std::mem::take(&mut *self.others.write());
        let mut closed: Vec<_> = others.into_values().filter_map(|peer| peer.end()).collect();
        for connection in self.incoming.lock().drain(..) {
            if let Some(connection) = connection.upgrade() {
                connection.set_closed();
                closed.push(connection.id);
            }
        }
        closed
    }
}

impl Peer {
    /// The server is no member any more. Gives its connection.
    fn end(&self) -> Option<ConnectionId> {
        let mut queue = self.queue.lock();
        queue.messages.clear();
        queue.bytes = 0;
        match std::mem::replace(&mut queue.link, Link::Over) {
            Link::Up(connection) => Some(connection),
            _ => None,
        }
    }
}
