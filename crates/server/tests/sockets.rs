//! A server at clients that break off, fall silent, or call methods without an end.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use crucial_object::collections::Blob;
use crucial_object::{MethodId, ObjectId, RunId, Sequence, SessionId, SharedType, encode, shared};
use crucial_proto::Endpoint;
use crucial_proto::frame::{
    self, CallFrame, Hello, OpenMode, OpenRequest, Operation, Response, Routes,
};
use crucial_server::{Config, Limits, Server, StartError};
use serde::{Deserialize, Serialize};

const LEASE: Duration = Duration::from_millis(300);

/// Far more than what is waited for takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn server(unsent_bytes_max: usize) -> Server {
    server_of_lease(unsent_bytes_max, LEASE)
}

fn server_of_lease(unsent_bytes_max: usize, lease: Duration) -> Server {
    Server::start(Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        // So that whoever gets a reply knows that the others' requests had their turns.
        threads: 1,
        lease,
        limits: Limits {
            unsent_bytes_max,
            ..Limits::default()
        },
        ..Config::default()
    })
    .unwrap()
}

fn connect(server: &Server) -> TcpStream {
    let Endpoint::Tcp { host, port } = &server.endpoints()[0] else {
        panic!("it listens on TCP");
    };
    let stream = TcpStream::connect((host.as_str(), *port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Looks again and again: a server announces to nobody that it has noticed the end of a client.
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A client made of a socket.
struct Client {
    stream: TcpStream,
    buffer: BytesMut,
    last: u64,
}

impl Client {
    fn new(server: &Server) -> Client {
        Client::of_session(server, SessionId(7))
    }

    fn of_session(server: &Server, session: SessionId) -> Client {
        let mut client = Client {
            stream: connect(server),
            buffer: BytesMut::new(),
            last: 0,
        };
        let hello = Hello {
            session,
            run: RunId([1; 16]),
            owner: session == SessionId(7),
            namespace: String::new(),
            attempt: None,
            routes: 0,
            fences: 0,
        };
        let mut bytes = Vec::new();
        frame::write_hello(&hello, &mut bytes).unwrap();
        client.stream.write_all(&bytes).unwrap();
        let Response::Welcome(welcome) = client.receive() else {
            panic!("no welcome");
        };
        client.know(&welcome.routes);
        client
    }

    fn know(&mut self, routes: &Routes) {
        let mut bytes = Vec::new();
        frame::write_known_routes(routes.version, &mut bytes).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }

    fn receive(&mut self) -> Response {
        loop {
            if let Some(frame) = frame::split(&mut self.buffer, frame::FRAME_BYTES_MAX).unwrap() {
                return frame::decode_response(frame).unwrap();
            }
            let mut bytes = [0; 4096];
            let count = self.stream.read(&mut bytes).unwrap();
            assert!(count > 0, "the server has closed the connection");
            self.buffer.extend_from_slice(&bytes[..count]);
        }
    }

    fn next_sequence(&mut self) -> Sequence {
        self.last += 1;
        Sequence(self.last)
    }

    fn make<T: SharedType + Serialize>(&mut self, value: &T) -> ObjectId {
        let request = OpenRequest {
            type_name: T::NAME.to_owned(),
            key: "object".to_owned(),
            persistent: false,
            mode: OpenMode::FindOrCreate,
            replicas: 1,
            state: encode(value).unwrap(),
        };
        let object = request.object(&RunId([1; 16]), "");
        let sequence = self.next_sequence();
        let mut bytes = Vec::new();
        frame::write_operation(sequence, sequence, &Operation::Open(request), &mut bytes).unwrap();
        self.stream.write_all(&bytes).unwrap();
        let reply = self.receive();
        assert!(
            matches!(reply, Response::Reply { result: Ok(_), .. }),
            "{reply:?}"
        );
        object
    }

    /// Sends requests until the sockets take no more.
    fn fill(&mut self) {
        self.stream.set_nonblocking(true).unwrap();
        loop {
            let sequence = self.next_sequence();
            let mut bytes = Vec::new();
            frame::write_operation(sequence, Sequence(1), &Operation::Ping, &mut bytes).unwrap();
            match self.stream.write_all(&bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                written => written.unwrap(),
            }
        }
    }

    fn ping(&mut self) {
        let sequence = self.next_sequence();
        let mut bytes = Vec::new();
        frame::write_operation(sequence, sequence, &Operation::Ping, &mut bytes).unwrap();
        self.stream.write_all(&bytes).unwrap();
        let reply = self.receive();
        assert!(
            matches!(reply, Response::Reply { result: Ok(_), .. }),
            "{reply:?}"
        );
    }

    fn call(&mut self, object: ObjectId, method: &str) {
        let call = CallFrame {
            sequence: self.next_sequence(),
            acked: Sequence(1),
            object,
            method: MethodId::of(method),
            timeout_ms: 0,
            args: &[],
        };
        let mut bytes = Vec::new();
        frame::write_call(&call, &mut bytes).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }
}

#[test]
fn an_end_that_comes_with_the_last_bytes_is_seen() {
    let server = server(Limits::default().unsent_bytes_max);
    let streams: Vec<TcpStream> = (0..200).map(|_| connect(&server)).collect();
    for mut stream in &streams {
        // The beginning of a frame: the server waits for more.
        stream.write_all(&[9, 0, 0]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    }
    for mut stream in &streams {
        assert_eq!(stream.read(&mut [0; 64]).unwrap(), 0);
    }
    wait_until("the server forgets the connections", || {
        server.status().node.connections == 0
    });
}

#[test]
fn a_client_that_falls_silent_while_replies_wait_for_it_is_given_up() {
    let server = server(64 << 10);
    let mut client = Client::new(&server);
    let blob = client.make(&Blob::new(vec![1; 256 << 10]));
    for _ in 0..100 {
        client.call(blob, "get");
    }
    // More than the server reads from a client that does not read its replies.
    client.fill();
    assert_eq!(server.status().node.sessions, 1);
    wait_until("the session ends", || server.status().node.sessions == 0);
}

#[test]
fn a_client_that_falls_behind_gets_all_replies() {
    const CALLS: usize = 400;
    let server = server(64 << 10);
    let mut client = Client::new(&server);
    let blob = client.make(&Blob::new(vec![1; 256 << 10]));
    let mut reader = Client {
        stream: client.stream.try_clone().unwrap(),
        buffer: std::mem::take(&mut client.buffer),
        last: 0,
    };
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..CALLS {
                client.call(blob, "get");
            }
        });
        for _ in 0..CALLS {
            let reply = reader.receive();
            assert!(
                matches!(reply, Response::Reply { result: Ok(_), .. }),
                "{reply:?}"
            );
        }
    });
}

static READS: AtomicUsize = AtomicUsize::new(0);

/// Counts how often it was read.
#[derive(Serialize, Deserialize)]
struct Counted;

#[shared(crate = crucial_object)]
impl Counted {
    fn read(&self) -> Vec<u8> {
        READS.fetch_add(1, Ordering::SeqCst);
        vec![1; 1 << 20]
    }
}

#[test]
fn replies_that_a_client_does_not_read_are_bounded() {
    const CALLS: usize = 300;
    /// What the limit, the sockets and one round of results may amount to, in results.
    const UNREAD_MAX: usize = 30;
    // A client that sends nothing while it waits is not silent for long enough to be given up.
    let server = server_of_lease(4 << 20, 10 * PATIENCE);
    let mut client = Client::new(&server);
    let counted = client.make(&Counted);
    // All of them come with one read of the server's.
    for _ in 0..CALLS {
        client.call(counted, "read");
    }
    let mut other = Client::of_session(&server, SessionId(8));
    for _ in 0..CALLS {
        other.ping();
    }
    let unread = READS.load(Ordering::SeqCst);
    assert!(unread <= UNREAD_MAX, "{unread}");
    for _ in 0..CALLS {
        let reply = client.receive();
        assert!(
            matches!(reply, Response::Reply { result: Ok(_), .. }),
            "{reply:?}"
        );
    }
    assert_eq!(READS.load(Ordering::SeqCst), CALLS);
}

static HAS_BEGUN: OnceLock<()> = OnceLock::new();

/// Has a method that does not end.
#[derive(Serialize, Deserialize)]
struct Endless;

#[shared(crate = crucial_object)]
impl Endless {
    fn run(&mut self) {
        let _ = HAS_BEGUN.set(());
        loop {
            std::thread::park();
        }
    }
}

#[test]
fn a_server_stops_though_a_method_does_not_end() {
    let server = server(Limits::default().unsent_bytes_max);
    let mut client = Client::new(&server);
    let endless = client.make(&Endless);
    client.call(endless, "run");
    HAS_BEGUN.wait();
    let start = Instant::now();
    server.stop();
    assert!(start.elapsed() < PATIENCE / 4, "{:?}", start.elapsed());
}

fn server_at(path: &Path) -> Result<Server, StartError> {
    Server::start(Config {
        listen: vec![Endpoint::Unix(path.to_owned())],
        ..Config::default()
    })
}

#[test]
fn a_server_removes_nothing_but_the_socket_of_one_that_was_killed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("server");
    fs::write(&path, "precious").unwrap();
    let error = server_at(&path).err().unwrap().to_string();
    assert!(error.contains("does not remove"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    fs::remove_file(&path).unwrap();

    drop(UnixListener::bind(&path).unwrap());
    let server = server_at(&path).unwrap();
    let error = server_at(&path).err().unwrap().to_string();
    assert!(error.contains("a server listens there"), "{error}");
    UnixStream::connect(&path).unwrap();
    server.stop();
    assert!(!path.exists());
}

/// Connects as another user, says something, and tells whether the server closes the connection.
const STRANGER: &str = "
import socket, sys
client = socket.socket(socket.AF_UNIX)
client.connect(bytes(1) + sys.argv[1].encode())
try:
    client.sendall(bytes([9, 0, 0]))
    answer = client.recv(1)
except OSError:
    answer = b''
print('closed' if answer == b'' else 'open')
";

#[cfg(target_os = "linux")]
#[test]
fn the_socket_of_an_embedded_server_is_closed_to_other_users() {
    use std::os::unix::process::CommandExt;
    if !rustix::process::geteuid().is_root() {
        return eprintln!("only the superuser can be two users");
    }
    // No directory keeps others out.
    let name = format!("crucial-0/embedded-{}-0.sock", std::process::id());
    let path = format!("@{name}");
    let _server = server_at(Path::new(&path)).unwrap();
    let mut client = crucial_local::connect(Path::new(&path)).unwrap();
    client.write_all(&[9, 0, 0]).unwrap();

    let output = Command::new("python3")
        .args(["-c", STRANGER, &name])
        .uid(65534)
        .current_dir("/")
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"closed\n", "{output:?}");
    // The beginning of a frame of this user's: the server waits for more.
    client.set_nonblocking(true).unwrap();
    let error = client.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}
