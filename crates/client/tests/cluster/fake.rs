//! A cluster of scripted servers. Objects are counters, and move with their records when the routes say so; the
//! servers are as strict as real ones may be, and note what no client may do.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use crucial_client::{Client, Config};
use crucial_core::frame::{
    self, CallRequest, Hello, ModuleInfo, Operation, Pushed, Request, RouteServer, Routes, Welcome,
};
use crucial_object::caller::{Call, CallNames, Caller, InFlight};
use crucial_object::{Error, MethodId, ObjectId, Result, Sequence, SessionId, decode, encode};

/// What nobody waits longer for than a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(20);

pub const PARTITIONS: usize = 16;

/// A shared world: the servers, and what they hold.
pub struct Fake {
    /// Not that of another test, which may get the port of a server that this one has killed.
    cluster: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    servers: Vec<Server>,
    objects: HashMap<ObjectId, Counter>,
    /// How often each call was executed.
    executed: HashMap<(SessionId, Sequence), u32>,
    wrong: Vec<String>,
    lease_ms: u64,
}

#[derive(Default)]
struct Counter {
    value: i64,
    records: HashMap<(SessionId, Sequence), i64>,
    /// The last call of each session.
    last: HashMap<SessionId, Sequence>,
    parked: Vec<(SessionId, Sequence)>,
}

#[derive(Default)]
pub struct Server {
    pub address: String,
    pub node: u64,
    pub incarnation: u64,
    pub cluster: u64,
    /// Its routes.
    routes: Option<Routes>,
    /// By which routes it became the primary of each partition.
    since: Vec<u64>,
    /// It neither reads nor writes.
    pub paused: bool,
    /// It is not there: whoever runs for it ends.
    pub killed: bool,
    /// Handshakes that it refuses yet, and how.
    pub refuse: Vec<Error>,
    /// So many calls are answered "moved", though it is the primary.
    pub moves: u32,
    /// Which routes it says that it has then.
    pub moves_to: u64,
    /// Whether it says that it still has a session.
    pub forgets: bool,
    /// It does not tell its clients of newer routes.
    pub secretive: bool,
    connections: Vec<Connection>,
    connected: u64,
    /// All hellos.
    pub hellos: Vec<Hello>,
    /// All requests that are no calls.
    pub heard: Vec<Operation>,
    pub calls: u64,
    pub reports: u64,
    pub cancels: u64,
    acked: HashMap<SessionId, Sequence>,
}

struct Connection {
    id: u64,
    session: SessionId,
    stream: TcpStream,
    /// The routes that the client said it has.
    routes: u64,
}

impl Fake {
    pub fn new(servers: usize) -> Arc<Fake> {
        static CLUSTERS: AtomicU64 = AtomicU64::new(100);
        let fake = Arc::new(Fake {
            cluster: CLUSTERS.fetch_add(1, Ordering::Relaxed),
            state: Mutex::new(State {
                lease_ms: 600,
                ..State::default()
            }),
            changed: Condvar::new(),
        });
        for _ in 0..servers {
            fake.add();
        }
        let all: Vec<usize> = (0..servers).collect();
        fake.route(1, &all, |partition| Some(partition % servers), &all);
        fake
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Another server, which knows of nothing yet.
    pub fn add(self: &Arc<Self>) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let index = {
            let mut state = self.lock();
            let index = state.servers.len();
            state.servers.push(Server {
                address,
                node: 1 + index as u64,
                incarnation: 1,
                cluster: self.cluster,
                since: vec![0; PARTITIONS],
                ..Server::default()
            });
            index
        };
        self.listen(index, listener);
        index
    }

    fn listen(self: &Arc<Self>, server: usize, listener: TcpListener) {
        let fake = self.clone();
        let incarnation = self.with(server, |server| server.incarnation);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if fake.is_over(server, incarnation) {
                    return;
                }
                let (fake, stream) = (fake.clone(), stream.unwrap());
                thread::spawn(move || serve(&fake, server, incarnation, stream));
            }
        });
    }

    fn is_over(&self, server: usize, incarnation: u64) -> bool {
        self.with(server, |server| {
            server.killed || server.incarnation != incarnation
        })
    }

    pub fn with<T>(&self, server: usize, f: impl FnOnce(&mut Server) -> T) -> T {
        let result = f(&mut self.lock().servers[server]);
        self.changed.notify_all();
        result
    }

    /// Waits until it is so.
    pub fn wait(&self, what: &str, mut f: impl FnMut(&[Server]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.lock();
        while !f(&state.servers) {
            assert!(Instant::now() < deadline, "{what}");
            let step = Duration::from_millis(20);
            state = self.changed.wait_timeout(state, step).unwrap().0;
        }
    }

    /// Decides on routes, and lets `tell` of the servers know.
    pub fn route(
        &self,
        version: u64,
        members: &[usize],
        primary: impl Fn(usize) -> Option<usize>,
        tell: &[usize],
    ) {
        let mut state = self.lock();
        let servers = members.iter().map(|index| RouteServer {
            node: state.servers[*index].node,
            incarnation: state.servers[*index].incarnation,
            address: state.servers[*index].address.clone(),
        });
        let place = |partition| {
            let primary = primary(partition)?;
            members.iter().position(|member| *member == primary)
        };
        let routes = Routes {
            cluster: self.cluster,
            version,
            servers: servers.collect(),
            primaries: (0..PARTITIONS)
                .map(|partition| place(partition).map_or(Routes::NONE, |place| place as u16))
                .collect(),
        };
        for index in tell {
            state.servers[*index].learn(&routes);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Lets a server know what another one does.
    pub fn gossip(&self, from: usize, to: usize) {
        let mut state = self.lock();
        let routes = state.servers[from].routes.clone().unwrap();
        state.servers[to].learn(&routes);
        drop(state);
        self.changed.notify_all();
    }

    pub fn cut(&self, server: usize) {
        self.with(server, |server| server.cut());
    }

    pub fn kill(&self, server: usize) {
        let address = self.with(server, |server| {
            server.killed = true;
            server.cut();
            server.address.clone()
        });
        // The listener looks up.
        let _ = TcpStream::connect(address);
    }

    /// A server lives again, without what it knew.
    pub fn restart(self: &Arc<Self>, server: usize) {
        let address = self.with(server, |server| server.address.clone());
        let deadline = Instant::now() + PATIENCE;
        let listener = loop {
            match TcpListener::bind(&address) {
                Ok(listener) => break listener,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            thread::yield_now();
        };
        self.with(server, |server| {
            server.killed = false;
            server.incarnation += 1;
            server.routes = None;
            server.acked.clear();
        });
        self.listen(server, listener);
    }

    /// Answers all parked calls of an object, at its present primary.
    pub fn release(&self, object: ObjectId) {
        let mut state = self.lock();
        let Some(counter) = state.objects.get_mut(&object) else {
            return;
        };
        let mut answers = Vec::new();
        for (session, sequence) in std::mem::take(&mut counter.parked) {
            counter.value += 1;
            counter.records.insert((session, sequence), counter.value);
            answers.push((session, sequence, counter.value));
        }
        for (session, sequence, value) in answers {
            *state.executed.entry((session, sequence)).or_default() += 1;
            for server in &mut state.servers {
                if server.is_primary(&object) {
                    server.reply_to(session, sequence, Ok(&encode(&value).unwrap()));
                }
            }
        }
    }

    pub fn parked(&self, object: ObjectId) -> usize {
        let state = self.lock();
        state.objects.get(&object).map_or(0, |c| c.parked.len())
    }

    pub fn wait_parked(&self, object: ObjectId, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.parked(object) != count {
            assert!(Instant::now() < deadline, "{count} parked calls");
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn value(&self, object: ObjectId) -> i64 {
        self.lock().objects.get(&object).map_or(0, |c| c.value)
    }

    /// Whether the clients have kept to the rules.
    pub fn check(&self) {
        let state = self.lock();
        assert_eq!(state.wrong, Vec::<String>::new());
        let twice = state.executed.values().filter(|count| **count > 1).count();
        assert_eq!(twice, 0, "calls that were executed more than once");
    }

    pub fn config(&self, server: usize) -> Config {
        let address = self.with(server, |server| server.address.clone());
        let mut config = Config::new(address.parse().unwrap());
        config.owner = false;
        config.local_socket = false;
        config
    }

    pub fn client(&self, server: usize) -> Arc<Client> {
        Client::connect(self.config(server)).unwrap()
    }
}

impl Server {
    fn learn(&mut self, routes: &Routes) {
        if self
            .routes
            .as_ref()
            .is_some_and(|r| r.version >= routes.version)
        {
            return;
        }
        let had: Vec<bool> = (0..PARTITIONS).map(|p| self.has(p)).collect();
        self.routes = Some(routes.clone());
        for (partition, had) in had.into_iter().enumerate() {
            if self.has(partition) && !had {
                self.since[partition] = routes.version;
            }
        }
        if self.paused || self.secretive {
            return;
        }
        let mut bytes = Vec::new();
        frame::write_routes(routes, &mut bytes).unwrap();
        self.write_all(&bytes);
    }

    /// Says something to all.
    pub fn write_all(&mut self, bytes: &[u8]) {
        for connection in &mut self.connections {
            let _ = connection.stream.write_all(bytes);
        }
    }

    fn has(&self, partition: usize) -> bool {
        let primary = self.routes.as_ref().and_then(|r| r.primary(partition));
        primary.is_some_and(|p| (p.node, p.incarnation) == (self.node, self.incarnation))
    }

    fn is_primary(&self, object: &ObjectId) -> bool {
        let partition = self.routes.as_ref().map(|r| r.partition(object));
        partition.is_some_and(|partition| self.has(partition))
    }

    fn version(&self) -> u64 {
        self.routes.as_ref().map_or(0, |routes| routes.version)
    }

    fn cut(&mut self) {
        for connection in self.connections.drain(..) {
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
    }

    fn reply_to(&mut self, session: SessionId, sequence: Sequence, result: Result<&[u8], &Error>) {
        let mut bytes = Vec::new();
        frame::write_reply(sequence, result, &mut bytes).unwrap();
        for connection in &mut self.connections {
            if connection.session == session {
                let _ = connection.stream.write_all(&bytes);
            }
        }
    }

    fn moved(&mut self, session: SessionId, sequence: Sequence, routes: u64) {
        let mut bytes = Vec::new();
        frame::write_moved(sequence, routes, &mut bytes).unwrap();
        for connection in &mut self.connections {
            if connection.session == session {
                let _ = connection.stream.write_all(&bytes);
            }
        }
    }

    pub fn is_connected(&self) -> bool {
        !self.connections.is_empty()
    }
}

fn serve(fake: &Fake, server: usize, incarnation: u64, mut stream: TcpStream) {
    let mut buffer = BytesMut::new();
    let mut scratch = [0; 65536];
    let mut session = None;
    loop {
        let count = match stream.read(&mut scratch) {
            Ok(count) if count > 0 => count,
            _ => break,
        };
        buffer.extend_from_slice(&scratch[..count]);
        while let Some(bytes) = frame::split(&mut buffer, frame::FRAME_BYTES_MAX).unwrap() {
            let request = frame::decode_request(bytes).unwrap();
            let mut state = fake.lock();
            while state.servers[server].paused && state.servers[server].incarnation == incarnation {
                state = fake.changed.wait(state).unwrap();
            }
            if state.servers[server].killed || state.servers[server].incarnation != incarnation {
                return;
            }
            match (request, session) {
                (Request::Hello { hello, .. }, None) => {
                    let hello = hello.unwrap();
                    let Some(id) = state.welcome(server, &mut stream, &hello) else {
                        return;
                    };
                    session = Some((hello.session, id));
                }
                (request, Some((session, id))) => {
                    // It does not execute what was sent by routes that it does not have yet.
                    while state.is_behind(server, id) && !state.servers[server].killed {
                        state = fake.changed.wait(state).unwrap();
                    }
                    state.take(server, id, session, request);
                }
                (request, None) => state.wrong.push(format!("{request:?} before the hello")),
            }
            drop(state);
            fake.changed.notify_all();
        }
    }
    if let Some((_, id)) = session {
        fake.with(server, |server| {
            server.connections.retain(|connection| connection.id != id);
        });
    }
}

impl State {
    /// Answers a hello. Gives the number of the connection, if there is one.
    fn welcome(&mut self, at: usize, stream: &mut TcpStream, hello: &Hello) -> Option<u64> {
        let lease_ms = self.lease_ms;
        let server = &mut self.servers[at];
        server.hellos.push(hello.clone());
        let mut bytes = Vec::new();
        let refusal = server.refuse.pop().or_else(|| {
            server.routes.is_none().then(|| Error::Unavailable {
                address: String::new(),
                reason: "it has no routes".to_owned(),
            })
        });
        if let Some(error) = refusal {
            frame::write_refused(&error, &mut bytes).unwrap();
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(Shutdown::Both);
            return None;
        }
        let mut routes = server.routes.clone()?;
        routes.cluster = server.cluster;
        let welcome = Welcome {
            resumed: !std::mem::take(&mut server.forgets),
            lease_ms,
            frame_bytes_max: frame::FRAME_BYTES_MAX as u64,
            features: 0,
            node: server.node,
            routes,
        };
        frame::write_welcome(&welcome, &mut bytes).unwrap();
        let _ = stream.write_all(&bytes);
        server.connected += 1;
        let id = server.connected;
        server.connections.retain(|connection| {
            if connection.session == hello.session {
                let _ = connection.stream.shutdown(Shutdown::Both);
            }
            connection.session != hello.session
        });
        server.connections.push(Connection {
            id,
            session: hello.session,
            stream: stream.try_clone().unwrap(),
            routes: hello.routes,
        });
        Some(id)
    }

    fn is_behind(&self, at: usize, id: u64) -> bool {
        let server = &self.servers[at];
        let connection = server.connections.iter().find(|c| c.id == id);
        connection.is_some_and(|connection| connection.routes > server.version())
    }

    fn take(&mut self, at: usize, id: u64, session: SessionId, request: Request) {
        let server = &mut self.servers[at];
        let Some(connection) = server.connections.iter_mut().find(|c| c.id == id) else {
            // It was cut.
            return;
        };
        match request {
            Request::Routes(version) => {
                if version < connection.routes {
                    self.wrong.push("routes that grow older".to_owned());
                    return;
                }
                connection.routes = version;
            }
            Request::Cancel { sequence, object } => {
                server.cancels += 1;
                self.cancel(at, session, sequence, object);
            }
            Request::InFlight(_) => server.reports += 1,
            Request::Numbered {
                sequence,
                acked,
                operation,
            } => {
                let known = server.acked.entry(session).or_insert(Sequence(0));
                *known = (*known).max(acked);
                if sequence < *known {
                    return;
                }
                let routes = connection.routes;
                match operation {
                    Operation::Call(call) => self.call(at, session, sequence, routes, &call),
                    operation => self.other(at, session, sequence, operation),
                }
            }
            Request::Hello { .. } => self.wrong.push("a second hello".to_owned()),
        }
    }

    fn call(
        &mut self,
        at: usize,
        session: SessionId,
        sequence: Sequence,
        routes: u64,
        call: &CallRequest,
    ) {
        let server = &mut self.servers[at];
        server.calls += 1;
        let object = call.object;
        let partition = server.routes.as_ref().unwrap().partition(&object);
        if server.moves > 0 {
            server.moves -= 1;
            let version = server.moves_to;
            return server.moved(session, sequence, version);
        }
        if !server.has(partition) || routes < server.since[partition] {
            let version = server.version();
            return server.moved(session, sequence, version);
        }
        // What is acknowledged here is forgotten, as it is by a real server.
        let acked = server.acked.get(&session).copied().unwrap_or(Sequence(0));
        let counter = self.objects.entry(object).or_default();
        counter
            .records
            .retain(|(of, number), _| *of != session || *number >= acked);
        if let Some(value) = counter.records.get(&(session, sequence)) {
            let bytes = encode(value).unwrap();
            return server.reply_to(session, sequence, Ok(&bytes));
        }
        if counter.parked.contains(&(session, sequence)) {
            return;
        }
        let last = counter.last.entry(session).or_insert(Sequence(0));
        if sequence < *last {
            self.wrong
                .push(format!("call {} of {object} behind {}", sequence.0, last.0));
        }
        *last = sequence;
        if call.method == MethodId::of("park") {
            counter.parked.push((session, sequence));
            return;
        }
        counter.value += 1;
        counter.records.insert((session, sequence), counter.value);
        let bytes = encode(&counter.value).unwrap();
        server.reply_to(session, sequence, Ok(&bytes));
        *self.executed.entry((session, sequence)).or_default() += 1;
    }

    fn cancel(&mut self, at: usize, session: SessionId, sequence: Sequence, object: ObjectId) {
        if !self.servers[at].is_primary(&object) {
            return;
        }
        if let Some(counter) = self.objects.get_mut(&object) {
            let before = counter.parked.len();
            counter.parked.retain(|call| *call != (session, sequence));
            if counter.parked.len() < before {
                self.servers[at].reply_to(session, sequence, Err(&Error::Cancelled));
            }
        }
    }

    fn other(&mut self, at: usize, session: SessionId, sequence: Sequence, operation: Operation) {
        let server = &mut self.servers[at];
        server.heard.push(operation.clone());
        let number = at as u64 + 1;
        let is_push = |heard: &&Operation| matches!(heard, Operation::Push { check: false, .. });
        let is_first = server.heard.iter().filter(is_push).count() == 1;
        let module = ModuleInfo {
            id: [1; 32],
            bytes: 3,
            types: Vec::new(),
            objects: number,
            hot: 0,
            heated: 0,
        };
        let result = match operation {
            Operation::ClearNamespace => encode(&number),
            Operation::Modules => encode(&vec![module]),
            Operation::RemoveModule(..) => encode(&(at == 0)),
            Operation::Push { .. } => encode(&Pushed {
                module,
                moved: if is_first { number } else { 0 },
                left: is_first.into(),
                reason: Some(format!("of {number}")),
                replaced: Vec::new(),
            }),
            _ => Ok(Vec::new()),
        };
        server.reply_to(session, sequence, Ok(&result.unwrap()));
    }
}

/// An object of a partition.
pub fn object(partition: usize, number: u8) -> ObjectId {
    let mut id = [number; 16];
    let first = (partition * (1 << 16) / PARTITIONS) as u16;
    id[..2].copy_from_slice(&first.to_be_bytes());
    ObjectId(id)
}

fn call(object: ObjectId, method: &'static str) -> Call<'static> {
    Call {
        object,
        method: MethodId::of(method),
        names: CallNames {
            type_name: "Counter",
            method,
        },
        timeout: None,
        args: &[],
    }
}

/// Adds one, and waits for the value.
pub fn add(client: &Client, object: ObjectId) -> Result<i64> {
    decode(&client.call(&call(object, "add"))?)
}

/// Adds one, and does not wait.
pub fn start(client: &Client, object: ObjectId) -> Box<dyn InFlight> {
    client.start(&call(object, "add")).unwrap()
}

/// Adds one when it is released.
pub fn park(client: &Client, object: ObjectId) -> Box<dyn InFlight> {
    client.start(&call(object, "park")).unwrap()
}

pub fn value(mut of: Box<dyn InFlight>) -> Result<i64> {
    decode(&of.wait()?)
}

/// The names of what was heard.
pub fn kinds(heard: &[Operation]) -> HashSet<String> {
    let kind = |operation: &Operation| {
        let text = format!("{operation:?}");
        text.split(['(', ' ', '{'])
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    heard.iter().map(kind).collect()
}

/// A frame that no server of this cluster sends.
pub fn routes_of_another_cluster() -> Vec<u8> {
    let mut bytes = Vec::new();
    let routes = Routes {
        cluster: 8,
        version: 99,
        servers: Vec::new(),
        primaries: vec![0; PARTITIONS],
    };
    frame::write_routes(&routes, &mut bytes).unwrap();
    bytes
}
