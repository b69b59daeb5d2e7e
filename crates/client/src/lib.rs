//! The client: one session with a server, shared by all threads of a process.
//!
//! A blocking call is made by the calling thread itself: it writes its frame, and waits for the reply
//! on the socket, or, while another thread does that, for that thread to hand it its reply. No third
//! thread is involved. In the order in which a call meets them:
//!
//! - [`Client`]: implements [`Caller`].
//! - `send`, `calls`, `pending`: numbers calls, and keeps them until they are answered.
//! - `link`, `socket`: the way to a server; bytes out and in.
//! - `reader`: one thread at a time reads for all (leader), the others wait (followers).
//! - `handshake`, `alone`: connects, and connects again; calls in flight are sent again, and executed once.
//! - `keeper`: signs of life, and replies for async tasks.
//!
//! In a cluster there is a link to each server that has something of the client, and besides
//!
//! - `routes`: which server answers for what; calls in flight move with the objects.
//! - `connector`: a thread for each link that is needed and down.
//! - `watch`: the keeper, which reads where nobody else does.
//! - `everywhere`: requests that go to all servers.
//!
//! ```
//! use crucial_client::{Client, Config};
//! use crucial_object::{Shared, caller, sync::AtomicI64};
//! use crucial_server::Server;
//!
//! let server = Server::start(crucial_server::Config {
//!     listen: vec!["127.0.0.1:0".parse()?],
//!     ..Default::default()
//! })?;
//! let client = Client::connect(Config::new(server.endpoints()[0].clone()))?;
//! caller::with(client, || {
//!     let hits = Shared::new(AtomicI64::new(1))?;
//!     hits.fetch_add(2)
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crucial_core::Endpoint;
use crucial_core::frame::{Attempt, Fence, Hello, OpenRequest, Operation};
use crucial_object::caller::{Call, Caller, InFlight, Lifetime, Open, Opened};
use crucial_object::{Error, ObjectId, Result, RunId, SessionId, decode};
use parking_lot::Mutex;

mod alone;
mod calls;
mod connector;
mod everywhere;
mod handshake;
mod keeper;
mod link;
mod pending;
mod reader;
mod routes;
mod send;
mod socket;
mod watch;

use calls::Calls;
use connector::{Asked, life_of};
use handshake::Dialed;
use keeper::Keeper;
use link::{Life, Link, State};
use pending::Slot;
use routes::Cluster;

/// Calls that a client may have in flight.
pub const CALLS_IN_FLIGHT_MAX: usize = 1 << 20;

/// How a client connects.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server, or one of a cluster.
    pub endpoint: Endpoint,
    /// More servers of the cluster, to be tried when the first does not answer.
    pub seeds: Vec<Endpoint>,
    /// The application run; a random one by default.
    pub run: RunId,
    /// Whether the run ends with this client, or with another.
    pub owner: bool,
    /// The namespace of persistent objects.
    pub namespace: String,
    /// On how many servers of a cluster an object is kept that does not say; 0: the servers decide.
    pub replicas: u8,
    /// For how long calls are held while the server can not be reached; then they fail with
    /// [`Error::Unavailable`].
    pub patience: Duration,
    /// How long a thread spins before it sleeps, when that has proved worth while lately. Zero: never.
    pub spin: Duration,
    /// Whether a server on this machine is reached over its Unix socket, if it has one.
    pub local_socket: bool,
    /// The attempt of an exactly-once thread whose session this client takes up: calls get the results of
    /// the same calls of earlier attempts. Nothing of it is acknowledged until the thread is fenced.
    pub exactly_once: Option<Attempt>,
    /// The modules that this program has with it. They are pushed when the server does not know a type.
    pub modules: Option<Modules>,
}

/// Gives modules, as their bytes.
pub type Modules = fn() -> Result<Vec<Vec<u8>>>;

impl Config {
    /// A client that owns a run of its own.
    pub fn new(endpoint: Endpoint) -> Config {
        Config {
            endpoint,
            seeds: Vec::new(),
            run: RunId(random()),
            owner: true,
            namespace: "default".to_owned(),
            replicas: 0,
            patience: Duration::from_secs(30),
            spin: default_spin(),
            local_socket: true,
            exactly_once: None,
            modules: None,
        }
    }
}

fn default_spin() -> Duration {
    match std::thread::available_parallelism() {
        Ok(cores) if cores.get() > 1 => Duration::from_micros(50),
        _ => Duration::ZERO,
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    bytes
}

/// A session with a server, or with the servers of a cluster.
pub struct Client {
    config: Config,
    session: SessionId,
    /// The one that answered first.
    endpoint: Endpoint,
    net: Net,
    /// What is not answered yet. Held for a moment, never while anything is sent.
    calls: Mutex<Calls>,
    /// Counts connections, from 1.
    connections: AtomicU64,
    /// Tasks that wait, for whom the keeper reads.
    tasks: AtomicUsize,
    keeper: Keeper,
    /// Told by the server.
    frame_bytes_max: AtomicUsize,
    anonymous: AtomicU64,
    /// The cloud thread that this process runs.
    attempt: Mutex<Option<Attempt>>,
    /// Of threads that this client has started: which of their attempts are over, for servers that it has not spoken to.
    fences: Mutex<VecDeque<Fence>>,
    /// Whether the program's modules were pushed; held meanwhile.
    pushed: Mutex<bool>,
    /// Why there are no calls any more.
    ended: OnceLock<Error>,
    started: Instant,
    this: Weak<Client>,
}

/// Whom the client talks to. The first welcome decides that.
enum Net {
    /// A server that is alone.
    Alone(Arc<Link>),
    Cluster(Cluster),
}

impl Client {
    /// Connects to a server.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if nobody answers there, nor at the seeds; [`Error::Protocol`] if it is no Crucial server
    /// of this version.
    pub fn connect(config: Config) -> Result<Arc<Client>> {
        let attempt = config.exactly_once;
        let session = match attempt {
            Some(attempt) => attempt.thread.session(),
            None => SessionId::of_client(u64::from_le_bytes(random())),
        };
        let mut hello = handshake::hello(&config, session);
        hello.attempt = attempt;
        let (endpoint, dialed) = handshake::dial_first(&config, &hello)?;
        let mut calls = Calls::new(attempt.is_some(), u64::from_le_bytes(random()));
        let (net, link) = match dialed.welcome.routes.clone() {
            routes if handshake::is_alone(&routes) => {
                let link = Link::new(Life::default(), endpoint.to_string());
                (Net::Alone(link.clone()), link)
            }
            routes => {
                calls.version = routes.version;
                let life = life_of(&routes, dialed.welcome.node);
                let cluster = Cluster::new(routes)?;
                let link = cluster.table().link_to(life).ok_or_else(no_member)?;
                (Net::Cluster(cluster), link)
            }
        };
        let client = Arc::new_cyclic(|this| Client {
            config,
            session,
            endpoint,
            net,
            calls: Mutex::new(calls),
            connections: AtomicU64::new(0),
            tasks: AtomicUsize::new(0),
            keeper: Keeper::default(),
            frame_bytes_max: AtomicUsize::new(dialed.welcome.frame_bytes_max as usize),
            anonymous: AtomicU64::new(0),
            attempt: Mutex::new(attempt),
            fences: Mutex::default(),
            pushed: Mutex::default(),
            ended: OnceLock::new(),
            started: Instant::now(),
            this: this.clone(),
        });
        client.begin_with(&link, &hello, dialed);
        keeper::start(&client)?;
        if client.table().is_some() && attempt.is_some_and(|attempt| attempt.number > 1) {
            client.take_over()?;
        }
        Ok(client)
    }

    /// Takes the first connection.
    fn begin_with(&self, link: &Arc<Link>, hello: &Hello, dialed: Dialed) {
        match &self.net {
            Net::Alone(_) => {
                link.lease_ms
                    .store(dialed.welcome.lease_ms, Ordering::Relaxed);
                let socket = Arc::new(dialed.socket);
                let mut out = link.out();
                link.connected(&mut out, socket.clone(), self.next_connection());
                let connection = out.connection;
                drop(out);
                link.reader.lock().restart(socket, connection, dialed.rest);
            }
            Net::Cluster(cluster) => {
                self.attach(cluster, link, &Asked::alone(hello.clone()), dialed);
                self.link_up(&cluster.table());
            }
        }
    }

    /// Where the server is: the first that was configured.
    pub fn endpoint(&self) -> &Endpoint {
        &self.config.endpoint
    }

    /// Where servers are: the present members of the cluster, and those that were configured. A client that knows
    /// these can connect.
    pub fn seeds(&self) -> Vec<Endpoint> {
        let routes = self.routes();
        let servers = routes.iter().flat_map(|routes| &routes.servers);
        let members = servers.filter_map(|server| server.address.parse().ok());
        let configured = handshake::candidates(&self.config);
        let mut seeds: Vec<Endpoint> = Vec::new();
        for endpoint in members.chain(configured) {
            if !seeds.contains(&endpoint) {
                seeds.push(endpoint);
            }
        }
        seeds
    }

    /// The run that this client belongs to.
    pub fn run(&self) -> RunId {
        self.config.run
    }

    /// The namespace of its persistent objects.
    pub fn namespace(&self) -> &str {
        &self.config.namespace
    }

    /// On how many servers an object is kept that does not say; 0: the servers decide.
    pub fn replicas(&self) -> u8 {
        self.config.replicas
    }

    fn end(&self, reason: Error) {
        let _ = self.ended.set(reason);
        self.keeper.stop();
    }

    /// Whether no call of this client can succeed any more: it said goodbye, or was fenced.
    pub fn has_ended(&self) -> bool {
        self.ended.get().is_some()
    }

    /// Removes an object, without waiting for it.
    pub fn delete_soon(&self, object: ObjectId) -> Result<()> {
        self.send_operation(&Operation::Delete(object), Some(object))
            .map(drop)
    }

    /// Pushes the program's own modules, once; whether it has any.
    fn push_own_modules(&self) -> Result<bool> {
        // The calls of an exactly-once thread are numbered by what the thread does.
        let Some(modules) = self
            .config
            .modules
            .filter(|_| self.config.exactly_once.is_none())
        else {
            return Ok(false);
        };
        let mut pushed = self.pushed.lock();
        let modules = modules()?;
        let any = !modules.is_empty();
        if !*pushed {
            for module in modules {
                self.push_module(module, false)?;
            }
            *pushed = true;
        }
        Ok(any)
    }

    /// Cuts the connections, as a network would. The next call connects again.
    #[doc(hidden)]
    pub fn break_connection(&self) {
        self.cut_all();
    }

    fn cut_all(&self) {
        match &self.net {
            Net::Alone(link) => link.cut(),
            Net::Cluster(cluster) => cluster.table().links.iter().for_each(|link| link.cut()),
        }
    }

    fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The client's clock.
    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

fn no_member() -> Error {
    Error::Protocol {
        detail: "the server is part of a cluster, but not in its routes".to_owned(),
    }
}

impl Caller for Client {
    fn call(&self, call: &Call<'_>) -> Result<Vec<u8>> {
        let slot = self.begin(call)?;
        self.wait(&slot)
    }

    fn start(&self, call: &Call<'_>) -> Result<Box<dyn InFlight>> {
        let slot = self.begin(call)?;
        let client = self.this.upgrade().expect("it is borrowed, so it lives");
        Ok(Box::new(Started { client, slot }))
    }

    fn open(&self, open: &Open<'_>) -> Result<Opened> {
        let key = match open.key {
            Some(key) => key.to_owned(),
            // Unique: the session is, and it counts.
            None => {
                let count = self.anonymous.fetch_add(1, Ordering::Relaxed);
                format!("#{:016x}.{count}", self.session.0)
            }
        };
        let request = OpenRequest {
            type_name: open.type_name.to_owned(),
            key,
            persistent: open.lifetime == Lifetime::Persistent,
            mode: open.mode.into(),
            replicas: match open.replicas {
                0 => self.config.replicas,
                replicas => replicas,
            },
            state: open.state.to_vec(),
        };
        let object = request.object(&self.config.run, &self.config.namespace);
        let request = Operation::Open(request);
        let created = match self.request(&request, Some(object)) {
            Err(unknown @ Error::UnknownType { .. }) => {
                if !self.push_own_modules()? {
                    return Err(unknown);
                }
                self.request(&request, Some(object))
            }
            created => created,
        };
        let created = decode(&created?)?;
        Ok(Opened { object, created })
    }

    fn delete(&self, object: ObjectId) -> Result<bool> {
        decode(&self.request(&Operation::Delete(object), Some(object))?)
    }

    fn clear_poison(&self, object: ObjectId) -> Result<bool> {
        decode(&self.request(&Operation::ClearPoison(object), Some(object))?)
    }

    fn clear_namespace(&self) -> Result<u64> {
        self.clear_namespaces()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.keeper.stop();
        match &self.net {
            Net::Alone(link) => link.cut(),
            Net::Cluster(cluster) => {
                for link in &cluster.table().links {
                    link.disconnected(&mut link.out(), State::Closed);
                }
            }
        }
    }
}

/// A call that [`Caller::start`] sent.
struct Started {
    client: Arc<Client>,
    slot: Arc<Slot>,
}

impl InFlight for Started {
    fn wait(&mut self) -> Result<Vec<u8>> {
        self.client.wait(&self.slot)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Vec<u8>>> {
        let polled = self.slot.poll(context, &self.client.tasks);
        if polled.is_pending() {
            self.client.keeper.look();
        }
        polled
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.slot.abandon(&self.client.tasks) {
            self.client.cancel(&self.slot);
        }
    }
}
