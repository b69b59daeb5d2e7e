//! Servers that do as a test says: they welcome, count calls, and keep nothing. What a session sends to whom is tested
//! without sockets, in `src/session/tests`.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use crucial_client::{Client, Config};
use crucial_object::caller::{Call, CallNames, Caller, InFlight};
use crucial_object::{Error, MethodId, ObjectId, Result, Sequence, decode, encode};
use crucial_proto::frame::{self, Hello, Operation, Request, RouteServer, Routes, Welcome};

/// What nobody waits longer for than a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(20);

pub const PARTITIONS: usize = 4;

/// A server.
#[derive(Clone)]
pub struct Script(Arc<Shared>);

struct Shared {
    address: String,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
pub struct State {
    pub node: u64,
    pub routes: Option<Routes>,
    /// The server neither reads nor writes.
    pub is_silent: bool,
    /// Calls are not answered until [`Script::release`].
    pub holds: bool,
    /// Handshakes that are refused, with what.
    pub refuse: Vec<Error>,
    /// How many calls are answered "moved", and which routes the server says it has then.
    pub moves: u32,
    pub moves_to: u64,
    is_dead: bool,
    held: Vec<Sequence>,
    pub calls: i64,
    pub hellos: Vec<Hello>,
    /// All requests that are no calls.
    pub heard: Vec<Operation>,
    connections: Vec<TcpStream>,
}

impl State {
    pub fn count(&self, operation: &Operation) -> usize {
        self.heard
            .iter()
            .filter(|heard| *heard == operation)
            .count()
    }

    fn write_all(&mut self, bytes: &[u8]) {
        for connection in &mut self.connections {
            // Those of closed connections fail.
            let _ = connection.write_all(bytes);
        }
    }

    /// Tells all clients of these routes.
    pub fn tell(&mut self, routes: &Routes) {
        self.routes = Some(routes.clone());
        let mut bytes = Vec::new();
        frame::write_routes(routes, &mut bytes).unwrap();
        self.write_all(&bytes);
    }

    fn answer(&mut self, request: Request, stream: &mut TcpStream) -> bool {
        let mut out = Vec::new();
        match request {
            Request::Hello { hello, .. } => {
                self.hellos.push(hello.unwrap());
                if let Some(error) = self.refuse.pop() {
                    frame::write_refused(&error, &mut out).unwrap();
                    let _ = stream.write_all(&out);
                    return false;
                }
                let welcome = Welcome {
                    resumed: true,
                    lease_ms: 600,
                    frame_bytes_max: frame::FRAME_BYTES_MAX as u64,
                    features: 0,
                    node: self.node,
                    routes: self.routes.clone().unwrap(),
                };
                frame::write_welcome(&welcome, &mut out).unwrap();
                self.connections.push(stream.try_clone().unwrap());
            }
            Request::Numbered {
                sequence,
                operation: Operation::Call(_),
                ..
            } => {
                if self.moves > 0 {
                    self.moves -= 1;
                    frame::write_moved(sequence, self.moves_to, &mut out).unwrap();
                } else {
                    self.calls += 1;
                    if self.holds {
                        self.held.push(sequence);
                    } else {
                        let value = encode(&self.calls).unwrap();
                        frame::write_reply(sequence, Ok(&value), &mut out).unwrap();
                    }
                }
            }
            Request::Numbered {
                sequence,
                operation,
                ..
            } => {
                let result = match operation {
                    Operation::ClearNamespace => encode(&self.node).unwrap(),
                    _ => Vec::new(),
                };
                self.heard.push(operation);
                frame::write_reply(sequence, Ok(&result), &mut out).unwrap();
            }
            _ => {}
        }
        let _ = stream.write_all(&out);
        true
    }
}

impl Script {
    pub fn new(node: u64) -> Script {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let script = Script(Arc::new(Shared {
            address: listener.local_addr().unwrap().to_string(),
            state: Mutex::new(State {
                node,
                ..State::default()
            }),
            changed: Condvar::new(),
        }));
        let listening = script.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if listening.lock().is_dead {
                    return;
                }
                let (script, stream) = (listening.clone(), stream.unwrap());
                thread::spawn(move || script.serve(stream));
            }
        });
        script
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut buffer = BytesMut::new();
        let mut scratch = [0; 65536];
        while let Ok(count) = stream.read(&mut scratch)
            && count > 0
        {
            buffer.extend_from_slice(&scratch[..count]);
            while let Some(bytes) = frame::split(&mut buffer, frame::FRAME_BYTES_MAX).unwrap() {
                let request = frame::decode_request(bytes).unwrap();
                let state = self.lock();
                let silent = self.0.changed.wait_while(state, |state| state.is_silent);
                let mut state = silent.unwrap();
                let goes_on = !state.is_dead && state.answer(request, &mut stream);
                drop(state);
                self.0.changed.notify_all();
                if !goes_on {
                    let _ = stream.shutdown(Shutdown::Both);
                    return;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        let result = f(&mut self.lock());
        self.0.changed.notify_all();
        result
    }

    /// Waits until it is so.
    pub fn wait(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        let state = self.lock();
        let waited = self
            .0
            .changed
            .wait_timeout_while(state, PATIENCE, |state| !is_so(state));
        assert!(!waited.unwrap().1.timed_out(), "{what}");
    }

    /// Answers the calls that were held.
    pub fn release(&self) {
        self.with(|state| {
            let mut out = Vec::new();
            for sequence in std::mem::take(&mut state.held) {
                let value = encode(&state.calls).unwrap();
                frame::write_reply(sequence, Ok(&value), &mut out).unwrap();
            }
            state.write_all(&out);
        });
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        self.with(|state| {
            for connection in state.connections.drain(..) {
                let _ = connection.shutdown(Shutdown::Both);
            }
        });
    }

    pub fn kill(&self) {
        self.with(|state| {
            state.is_dead = true;
            state.is_silent = false;
        });
        self.cut();
        // The listener looks up.
        let _ = TcpStream::connect(&self.0.address);
    }

    /// A client that knows this server, and does not own a run.
    pub fn config(&self) -> Config {
        let mut config = Config::new(self.0.address.parse().unwrap());
        config.owner = false;
        config.local_socket = false;
        config
    }

    pub fn client(&self) -> Arc<Client> {
        Client::connect(self.config()).unwrap()
    }
}

/// Servers with the nodes from 1, which go by routes among which the partitions go round.
pub fn scripts<const N: usize>() -> [Script; N] {
    let scripts: [Script; N] = std::array::from_fn(|index| Script::new(1 + index as u64));
    let routes = routes(1, &scripts, |partition| Some(partition % N));
    for script in &scripts {
        script.with(|state| state.routes = Some(routes.clone()));
    }
    scripts
}

pub fn routes(
    version: u64,
    scripts: &[Script],
    primary: impl Fn(usize) -> Option<usize>,
) -> Routes {
    let server = |script: &Script| RouteServer {
        node: script.lock().node,
        incarnation: 1,
        address: script.0.address.clone(),
    };
    let primary = |partition| primary(partition).map_or(Routes::NONE, |place| place as u16);
    Routes {
        // Another one's clients may know the port of a server that is not there any more.
        cluster: scripts[0]
            .0
            .address
            .parse::<std::net::SocketAddr>()
            .unwrap()
            .port()
            .into(),
        version,
        servers: scripts.iter().map(server).collect(),
        primaries: (0..PARTITIONS).map(primary).collect(),
    }
}

/// An object of a partition.
pub fn object(partition: usize) -> ObjectId {
    let mut id = [1; 16];
    let first = (partition * (1 << 16) / PARTITIONS) as u16;
    id[..2].copy_from_slice(&first.to_be_bytes());
    ObjectId(id)
}

fn call(object: ObjectId) -> Call<'static> {
    Call {
        object,
        method: MethodId::of("add"),
        names: CallNames {
            type_name: "Counter",
            method: "add",
        },
        timeout: None,
        args: &[],
    }
}

/// Calls, and waits for how many calls the server has had.
pub fn add(client: &Client, partition: usize) -> Result<i64> {
    decode(&client.call(&call(object(partition)))?)
}

/// Calls, and does not wait.
pub fn start(client: &Client, partition: usize) -> Box<dyn InFlight> {
    client.start(&call(object(partition))).unwrap()
}

pub fn value(mut of: Box<dyn InFlight>) -> Result<i64> {
    decode(&of.wait()?)
}

/// Waits until the client goes by routes of this version.
pub fn wait_routes(client: &Client, version: u64) {
    let deadline = Instant::now() + PATIENCE;
    while client.routes().version < version {
        assert!(Instant::now() < deadline, "routes {version}");
        thread::sleep(Duration::from_millis(1));
    }
}
