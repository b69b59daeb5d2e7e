//! A server's process: a node, its connections, and the jobs that take long.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use crucial_node::replication::{Incarnation, NodeId, Timing};
use crucial_node::{Config, Connection, ConnectionId, Done, Input, Job, ModuleId, Node, Outputs};
use crucial_object::SessionId;
use crucial_proto::frame::{self, Request, VERSION, peer};

use crate::wire::{Dial, End, Packet};

/// How all processes of a run are set up.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub partitions: usize,
    pub parked_calls_max: usize,
    pub waiting_requests_max: usize,
    pub queued_calls_max: usize,
    pub unacknowledged_max: usize,
    pub min_replicas: u8,
    /// A client that was silent for longer has died.
    pub client_lease_ms: u64,
    pub hash_seed: u64,
    /// Clients push modules and remove them.
    pub has_modules: bool,
}

/// The lease of a server.
pub const LEASE_MS: u64 = 1000;

/// The modules on a machine's disk, which outlive its processes.
pub type Disk = BTreeMap<ModuleId, Bytes>;

/// A server's process.
pub struct Process {
    pub node: Node,
    /// The incarnation that it began with, which names it.
    pub began: Incarnation,
    client_lease_ms: u64,
    /// All connections that there were; `None`: it is closed.
    ends: BTreeMap<End, Option<Arc<Connection>>>,
    /// When each client was heard last.
    heard: BTreeMap<SessionId, u64>,
    /// For how long each client was not heard before a hello, at most.
    silent: BTreeMap<SessionId, u64>,
    /// By the index of a connection's id, with how often it was used.
    slots: Vec<(u32, Option<End>)>,
    /// Jobs that were not executed yet.
    pub jobs: BTreeMap<u64, Job>,
    /// Jobs that were executed, and not completed yet.
    pub done: BTreeMap<u64, Done>,
    /// When the node is to be called again, by its clock.
    pub wakes_at: Option<u64>,
    /// Its view has had this incarnation.
    pub was_member: bool,
    /// The process waits for its next incarnation.
    pub is_evicted: bool,
    /// Modules that it has ever installed.
    pub has_installed: BTreeSet<ModuleId>,
}

/// Whether the node that dialed has a link.
pub struct Reply(pub Dial, pub peer::Hello, pub bool);

impl Process {
    pub fn new(id: NodeId, began: Incarnation, settings: &Settings) -> Process {
        let mut config = Config::new(id, LEASE_MS, settings.hash_seed);
        config.partitions = settings.partitions;
        config.timing = Timing {
            repeat_ms: LEASE_MS / 5,
            silence_ms: LEASE_MS * 4,
            window: 4,
            batch: 8,
            min_replicas: settings.min_replicas,
            unacknowledged_max: settings.unacknowledged_max,
            ..Timing::default()
        };
        config.client_lease_ms = settings.client_lease_ms;
        config.tick_ms = 50;
        // So few that records are dropped in every run.
        config.records_min = 2;
        config.limits.parked_calls_max = settings.parked_calls_max;
        config.limits.waiting_requests_max = settings.waiting_requests_max;
        config.limits.queued_calls_max = settings.queued_calls_max;
        Process {
            node: Node::new(config),
            began,
            client_lease_ms: settings.client_lease_ms,
            ends: BTreeMap::new(),
            heard: BTreeMap::new(),
            silent: BTreeMap::new(),
            slots: Vec::new(),
            jobs: BTreeMap::new(),
            done: BTreeMap::new(),
            wakes_at: None,
            was_member: false,
            is_evicted: false,
            has_installed: BTreeSet::new(),
        }
    }

    /// Whether a packet that was sent to an incarnation of its node is for it.
    pub fn takes(&self, incarnation: Incarnation, packet: &Packet) -> bool {
        match packet.is_from_control() {
            true => self.node.incarnation() == incarnation && !self.is_evicted,
            false => self.began <= incarnation && incarnation <= self.node.incarnation(),
        }
    }

    /// A packet came.
    pub fn receive(&mut self, packet: Packet, now: u64, out: &mut Outputs) -> Option<Reply> {
        match packet {
            Packet::Frame(stream, frame) => self.receive_frame(stream, frame, now, out),
            Packet::Messages(link, bytes) => {
                if let Some(connection) = self.open_at(End::Incoming(link)) {
                    let input = Input::PeerMessages(connection, bytes);
                    self.node.handle(input, now, out);
                }
            }
            Packet::PeerHello(dial, hello) => {
                let connection = self.open(End::Incoming(dial.link), Connection::new);
                let connected = Input::Connected(connection.clone());
                self.node.handle(connected, now, out);
                let input = Input::PeerHello(connection.clone(), VERSION, Some(hello));
                self.node.handle(input, now, out);
                return Some(Reply(dial, hello, connection.peer().is_some()));
            }
            Packet::PeerReply(dial, hello, true) => {
                let to_peer = |id| Connection::to_peer(id, hello);
                let connection = self.open(End::Outgoing(dial.link), to_peer);
                self.node
                    .handle(Input::PeerUp(connection, dial.id), now, out);
            }
            Packet::PeerReply(dial, hello, false) => {
                if let Some((to, _)) = hello.to {
                    let input = Input::PeerDown(NodeId(to), dial.id);
                    self.node.handle(input, now, out);
                }
            }
            Packet::Closed(end) => {
                if let Some(connection) = self.close(end) {
                    self.node.handle(Input::Closed(connection), now, out);
                }
            }
            Packet::Grant(grant, view) => {
                self.node.handle(Input::View(view), now, out);
                self.node.handle(Input::Lease(grant), now, out);
            }
            Packet::View(view) => self.node.handle(Input::View(view), now, out),
            Packet::Evicted | Packet::NotLeader(_) => {}
        }
        None
    }

    fn receive_frame(&mut self, stream: u64, frame: Bytes, now: u64, out: &mut Outputs) {
        let end = End::Client(stream);
        if !self.ends.contains_key(&end) {
            let connection = self.open(end, Connection::new);
            self.node.handle(Input::Connected(connection), now, out);
        }
        let Some(connection) = self.open_at(end) else {
            return;
        };
        let request = frame::decode_request(frame).expect("a frame of the protocol");
        let session = match &request {
            Request::Hello { hello, .. } => hello.as_ref().map(|hello| hello.session),
            _ => connection.session().map(|session| session.id()),
        };
        if let Some(session) = session {
            let heard = self.heard.insert(session, now);
            if let Request::Hello { .. } = request {
                let silent = heard.map_or(u64::MAX, |heard| now - heard);
                let longest = self.silent.entry(session).or_default();
                *longest = silent.max(*longest);
            }
        }
        self.node
            .handle(Input::Request(connection, request), now, out);
    }

    /// Whether a client was ever silent for so long that its session may have ended.
    pub fn was_silent(&self, session: SessionId) -> bool {
        let silent = self.silent.get(&session);
        silent.is_none_or(|silent| *silent > self.client_lease_ms)
    }

    fn open(
        &mut self,
        end: End,
        make: impl FnOnce(ConnectionId) -> Arc<Connection>,
    ) -> Arc<Connection> {
        let free = self.slots.iter().position(|(_, end)| end.is_none());
        let index = free.unwrap_or_else(|| {
            self.slots.push((0, None));
            self.slots.len() - 1
        });
        let (generation, present) = &mut self.slots[index];
        *generation += 1;
        *present = Some(end);
        let connection = make(ConnectionId {
            index: index as u32,
            generation: *generation,
        });
        self.ends.insert(end, Some(connection.clone()));
        connection
    }

    fn open_at(&self, end: End) -> Option<Arc<Connection>> {
        self.ends.get(&end)?.clone()
    }

    fn close(&mut self, end: End) -> Option<Arc<Connection>> {
        let connection = self.ends.get_mut(&end)?.take()?;
        self.slots[connection.id.index as usize].1 = None;
        Some(connection)
    }

    /// The other end of an open connection.
    pub fn end_of(&self, id: ConnectionId) -> Option<End> {
        let (generation, end) = self.slots.get(id.index as usize)?;
        end.filter(|_| *generation == id.generation)
    }

    /// All open connections.
    pub fn open_ends(&self) -> impl Iterator<Item = End> {
        let open = self.ends.iter().filter(|(_, open)| open.is_some());
        open.map(|(end, _)| *end)
    }

    /// The node at the other end of an open link.
    pub fn peer_at(&self, end: End) -> Option<NodeId> {
        let connection = self.ends.get(&end)?.as_ref()?;
        Some(connection.peer()?.node())
    }
}
