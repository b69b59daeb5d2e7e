//! A socket at which invocations wait for each other and for the test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

/// A test that waits longer than this fails.
const TIMEOUT: Duration = Duration::from_secs(60);

pub struct Rendezvous(TcpListener);

/// A worker that is connected to a rendezvous.
pub struct Participant {
    stream: BufReader<TcpStream>,
    pub pid: i32,
    pub request_id: String,
    /// `HOST:PORT` of the Runtime API, and the path of the worker in it.
    pub api: (String, String),
}

impl Rendezvous {
    pub fn new() -> Rendezvous {
        Rendezvous(TcpListener::bind("127.0.0.1:0").expect("a port is free"))
    }

    /// A payload for a worker that waits here (`wait`), or that only connects and goes on (`connect`).
    pub fn payload(&self, command: &str) -> Vec<u8> {
        let address = self.address();
        format!("{command} {address}").into_bytes()
    }

    pub fn address(&self) -> String {
        self.0.local_addr().expect("it is bound").to_string()
    }

    /// Whether no worker has connected that was not seen.
    pub fn is_deserted(&self) -> bool {
        self.0.set_nonblocking(true).expect("it is open");
        let next = self.0.accept();
        self.0.set_nonblocking(false).expect("it is open");
        next.is_err()
    }

    /// Waits until `count` workers have connected.
    pub fn participants(&self, count: usize) -> Vec<Participant> {
        (0..count).map(|_| self.participant()).collect()
    }

    /// Waits for the next worker to connect.
    pub fn participant(&self) -> Participant {
        let (stream, _) = self.0.accept().expect("a worker connects");
        stream.set_read_timeout(Some(TIMEOUT)).expect("not zero");
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream
            .read_line(&mut line)
            .expect("a worker identifies itself");
        let mut words = line.trim_end().split(' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        let pid = word().parse().expect("a process id");
        let request_id = word();
        let api = word();
        let (host, path) = api.split_once('/').unwrap_or((&api, ""));
        Participant {
            pid,
            request_id,
            api: (host.to_owned(), format!("/{path}")),
            stream,
        }
    }
}

impl Participant {
    /// The next line that the worker sends.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("the worker writes");
        line.trim_end().to_owned()
    }

    /// Releases the worker, which returns the byte `x`.
    pub fn release(mut self) {
        self.stream
            .get_mut()
            .write_all(b"x")
            .expect("the worker is still connected");
    }

    /// Waits until the worker's process has ended.
    pub fn wait_until_ended(mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("process {} still runs: {error}", self.pid),
        }
    }
}

/// Whether the process has ended and is not a zombie.
pub fn is_reaped(pid: i32) -> bool {
    !Path::new("/proc").join(pid.to_string()).exists()
}
