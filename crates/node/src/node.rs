//! The server: all of its parts, and the events that come from outside.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use crucial_object::ObjectId;
use crucial_proto::frame::{Request, peer};

use crate::Limits;
use crate::cell::Recording;
use crate::connection::Connection;
use crate::early::EarlyRequests;
use crate::hash::HashSeed;
use crate::ids::{ConnectionId, DialId, Millis, REPLICAS_MAX};
use crate::job::{Done, Executed};
use crate::leases::LeaseWatch;
use crate::membership::Membership;
use crate::module_state::Modules;
use crate::objects::{Homes, ObjectTable};
use crate::outputs::{ControlInfo, ControlQuery, Greeted, Outputs};
use crate::partitions::Partitions;
use crate::peers::{Ended, Peers};
use crate::replication::{Grant, Incarnation, NodeId, Replica, Timing, View, ViewVersion};
use crate::rounds::Rounds;
use crate::session::{Session, Sessions};
use crate::sync::{AtomicBool, AtomicUsize, Mutex};
use crate::timers::Timers;
use crate::types::Types;
use crate::work::WorkDone;

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which server it is.
    pub node: NodeId,
    /// The limits of what it accepts.
    pub limits: Limits,
    /// How many partitions the cluster has; the same at all servers.
    pub partitions: usize,
    /// How long it waits for other servers.
    pub timing: Timing,
    /// For how long a lease of this server lasts, in milliseconds.
    pub lease_ms: Millis,
    /// A client that was silent for longer than this has ended, in milliseconds.
    pub client_lease_ms: Millis,
    /// How often partitions are told that time has passed, in milliseconds.
    pub tick_ms: Millis,
    /// Whether no other server can join this one.
    pub is_alone: bool,
    /// Calls leave no completion records: to measure what these cost.
    pub at_least_once: bool,
    /// With fewer records in an object nobody looks which of them are needed.
    pub records_min: usize,
    /// Orders hash maps: fixed in the simulation, random in production.
    pub hash_seed: u64,
}

impl Config {
    /// The settings of a server in production. `hash_seed` should be random.
    pub fn new(node: NodeId, lease_ms: Millis, hash_seed: u64) -> Config {
        Config {
            node,
            limits: Limits::default(),
            partitions: crate::replication::PARTITIONS,
            timing: Timing::of_lease(lease_ms),
            lease_ms,
            client_lease_ms: 10_000,
            tick_ms: 20,
            is_alone: false,
            at_least_once: false,
            records_min: 64,
            hash_seed,
        }
    }
}

/// An event from outside.
pub enum Input {
    /// A connection was accepted.
    Connected(Arc<Connection>),
    /// A connection is closed, by either end.
    Closed(Arc<Connection>),
    /// A frame of a client came.
    Request(Arc<Connection>, Request),
    /// The welcome to a client is on its way.
    Greeted(Greeted),
    /// Another server says who it is.
    PeerHello(Arc<Connection>, u16, Option<peer::Hello>),
    /// Another server sends messages about partitions.
    PeerMessages(Arc<Connection>, Bytes),
    /// A server that was dialed has answered.
    PeerUp(Arc<Connection>, DialId),
    /// A server that was dialed has not answered.
    PeerDown(NodeId, DialId),
    /// The control group has decided a view.
    View(Arc<View>),
    /// The control group has granted a lease.
    Lease(Grant),
    /// The control group has taken this server for dead.
    Evicted,
    /// This server begins a new incarnation, which has nothing of the last one.
    Incarnation(Incarnation),
    /// This server belongs to the cluster of this id.
    Cluster(u64),
    /// Information about the control group, for a question about the cluster.
    ControlInfo(ControlQuery, ControlInfo),
    /// Work of the shell is done.
    WorkDone(WorkDone),
}

/// A server without sockets, threads and clocks.
///
/// **Locks.** A checked-out object is no lock: nobody waits for it. Whoever has one may lock its partition, for a moment. Under
/// a partition's lock all others may be locked, each for one look-up or change: the table and then the entry of an object in
/// it, the homes, the peers and then a peer's queue, the types, the catalog, the rounds, the timers, and the sessions. Timers
/// look at sessions; the sessions come before the runs, and both before one session. No user code runs, nothing is encoded
/// and nothing is written while a lock is held.
pub struct Node {
    pub(crate) limits: Limits,
    pub(crate) client_lease_ms: Millis,
    pub(crate) tick_ms: Millis,
    pub(crate) is_alone: bool,
    at_least_once: bool,
    pub(crate) records_min: usize,
    pub(crate) types: Types,
    pub(crate) objects: ObjectTable,
    pub(crate) homes: Homes,
    pub(crate) sessions: Sessions,
    pub(crate) partitions: Partitions,
    pub(crate) membership: Membership,
    pub(crate) peers: Peers,
    pub(crate) timers: Timers,
    pub(crate) rounds: Rounds,
    pub(crate) early: EarlyRequests,
    pub(crate) lease_watch: Mutex<LeaseWatch>,
    pub(crate) modules: Modules,
    /// Whether a look at the leases is planned.
    pub(crate) watches_leases: AtomicBool,
    /// Whether a tick is planned.
    pub(crate) ticks: AtomicBool,
    connections: AtomicUsize,
    /// Those of them that are clients'.
    clients: AtomicUsize,
    /// Changes that came out differently here than at the primary.
    pub(crate) divergences: AtomicUsize,
}

/// Counts of what a server holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Objects.
    pub objects: usize,
    /// Completion records, of all objects that are not checked out.
    pub records: usize,
    /// Times at which something may have to be done, above all time-outs of waiting calls.
    pub deadlines: usize,
    /// Open connections.
    pub connections: usize,
    /// Sessions of live clients.
    pub sessions: usize,
    /// Changes that came out differently here than at the primary, since the start. There should be none.
    pub divergences: usize,
}

impl Node {
    /// A server that is not a member of a cluster yet, and serves nothing.
    pub fn new(config: Config) -> Node {
        let seed = HashSeed(config.hash_seed);
        let me = (config.node, Incarnation(0));
        let placement = (REPLICAS_MAX, config.timing);
        Node {
            limits: config.limits,
            client_lease_ms: config.client_lease_ms,
            tick_ms: config.tick_ms,
            is_alone: config.is_alone,
            at_least_once: config.at_least_once,
            records_min: config.records_min,
            types: Types::new(seed),
            objects: ObjectTable::new(config.partitions),
            homes: Homes::default(),
            sessions: Sessions::new(seed),
            partitions: Partitions::new(config.partitions, me, placement),
            membership: Membership::new(config.node, config.partitions, config.lease_ms),
            peers: Peers::default(),
            timers: Timers::default(),
            rounds: Rounds::default(),
            early: EarlyRequests::default(),
            lease_watch: Mutex::default(),
            modules: Modules::new(config.node),
            watches_leases: AtomicBool::new(false),
            ticks: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            clients: AtomicUsize::new(0),
            divergences: AtomicUsize::new(0),
        }
    }

    /// Takes in an event. `now` never goes back.
    pub fn handle(&self, input: Input, now: Millis, out: &mut Outputs) {
        match input {
            Input::Request(connection, request) => self.on_request(connection, request, now, out),
            Input::Connected(connection) => self.on_connected(&connection, now, out),
            Input::Greeted(greeted) => self.on_greeted(&greeted, out),
            Input::Closed(connection) => self.on_closed(&connection, now),
            Input::PeerHello(connection, version, hello) => {
                self.on_peer_hello(&connection, (version, hello), out);
            }
            Input::PeerMessages(connection, bytes) => self.on_peer_messages(connection, bytes, out),
            Input::PeerUp(connection, dial) => self.on_peer_up(&connection, dial, now, out),
            Input::PeerDown(node, dial) => self.peers.on_down(node, Ended::Dial(dial), now),
            Input::View(view) => self.on_view(view, now, out),
            Input::Lease(grant) => self.on_lease(grant, now, out),
            Input::Evicted => self.membership.end_lease(),
            Input::Incarnation(incarnation) => self.begin_incarnation(incarnation, now, out),
            Input::Cluster(cluster) => self.on_cluster(cluster, out),
            Input::ControlInfo(query, control) => self.reply_cluster(&query.0, &control, now, out),
            Input::WorkDone(done) => self.on_work_done(done, now, out),
        }
        self.begin_turns(now, out);
    }

    /// Takes in a job that was executed. `now` has to be read after that.
    pub fn complete(&self, done: Done, now: Millis, out: &mut Outputs) {
        match done.0 {
            Executed::Message(connection, message) => {
                self.on_peer_message(&connection, message, now, out);
            }
            Executed::Object(turn, outcome, image) => {
                self.complete_object(turn, (outcome, image), now, out);
            }
        }
        self.begin_turns(now, out);
    }

    /// The next timeout, if there is one.
    pub fn next_timeout(&self) -> Option<Millis> {
        self.timers.next()
    }

    /// Does what is due.
    pub fn handle_timeout(&self, now: Millis, out: &mut Outputs) {
        while let Some(timer) = self
            .timers
            .take_due(now, &|timer| self.timer_has_meaning(timer))
        {
            self.on_timer(timer, now, out);
        }
        self.begin_turns(now, out);
    }

    /// Encodes the messages that queue for another server, and hands the frames to the connection by `write`, in order, while it
    /// `has_room`.
    pub fn drain_peer(
        &self,
        to: NodeId,
        has_room: impl Fn(ConnectionId) -> bool,
        write: impl FnMut(ConnectionId, &[u8]),
    ) {
        self.peers.drain(to, has_room, write);
    }

    /// A connection's buffer has room again: whether it is one to another server, and which.
    pub fn on_drained(&self, connection: &Connection) -> Option<NodeId> {
        let peer = connection.peer()?;
        peer.is_outgoing.then(|| peer.node())
    }

    /// Counts what it holds. Looks at every object.
    pub fn status(&self) -> Status {
        Status {
            objects: self.objects.len(),
            records: self.objects.records(),
            deadlines: self.timers.len(),
            connections: self.connections.load(Ordering::Relaxed),
            sessions: self.sessions.len(),
            divergences: self.divergences.load(Ordering::Relaxed),
        }
    }

    /// Looks at what this server has of an object, from outside. `None`: nothing, or the object is checked out.
    pub fn look_at<T>(&self, object: &ObjectId, look: impl FnOnce(&mut Replica) -> T) -> Option<T> {
        self.objects.find(object)?.look_at(look)
    }

    /// The newest view that it has taken up.
    pub fn view(&self) -> Arc<View> {
        self.membership.view()
    }

    /// Which server it is.
    pub fn id(&self) -> NodeId {
        self.membership.me
    }

    /// The incarnation that it is in.
    pub fn incarnation(&self) -> Incarnation {
        self.membership.incarnation()
    }

    /// Whether it is a member with a lease, and serves.
    pub fn is_serving(&self, now: Millis) -> bool {
        self.membership.is_member() && self.membership.has_lease(now)
    }

    /// Whether its view has it.
    pub fn is_member(&self) -> bool {
        self.membership.is_member()
    }

    pub(crate) fn version(&self) -> ViewVersion {
        self.membership.version()
    }

    pub(crate) fn recording(&self, session: &Session) -> Recording {
        match (session.recorded, self.at_least_once) {
            (true, _) => Recording::Everything,
            (false, false) => Recording::Changes,
            (false, true) => Recording::Nothing,
        }
    }

    /// Counts one more connection, or one less; gives how many there are.
    pub(crate) fn count_connection(&self, is_open: bool) -> usize {
        match is_open {
            true => self.connections.fetch_add(1, Ordering::Relaxed) + 1,
            false => self.connections.fetch_sub(1, Ordering::Relaxed) - 1,
        }
    }

    /// How many connections are clients'.
    pub(crate) fn client_connections(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Counts one more connection of a client, or one less.
    pub(crate) fn count_client_connection(&self, is_open: bool) {
        match is_open {
            true => self.clients.fetch_add(1, Ordering::Relaxed),
            false => self.clients.fetch_sub(1, Ordering::Relaxed),
        };
    }

    pub(crate) fn exists(&self, object: &ObjectId) -> bool {
        self.objects.find(object).is_some()
    }

    /// Asserts the invariants of all its parts.
    ///
    /// # Panics
    ///
    /// If one is broken.
    pub fn check(&self) {
        self.sessions.check();
        self.modules.catalog.lock().check();
        for id in self.partitions.ids() {
            self.partitions.lock(id).check();
        }
    }
}
