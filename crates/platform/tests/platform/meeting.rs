//! A place where invocations wait for each other and for the test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

/// A test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Meeting(TcpListener);

/// Somebody at a meeting.
pub struct Guest {
    stream: BufReader<TcpStream>,
    pub pid: i32,
    pub request_id: String,
    /// `HOST:PORT`, and the path that names the worker.
    pub api: (String, String),
}

impl Meeting {
    pub fn new() -> Meeting {
        Meeting(TcpListener::bind("127.0.0.1:0").expect("a port is free"))
    }

    /// A payload for somebody who comes and stays (`meet`), or who comes and goes on (`hold`).
    pub fn payload(&self, word: &str) -> Vec<u8> {
        let address = self.address();
        format!("{word} {address}").into_bytes()
    }

    pub fn address(&self) -> String {
        self.0.local_addr().expect("it is bound").to_string()
    }

    /// Waits until so many have come.
    pub fn guests(&self, count: usize) -> Vec<Guest> {
        (0..count).map(|_| self.guest()).collect()
    }

    /// Waits for the next to come.
    pub fn guest(&self) -> Guest {
        let (stream, _) = self.0.accept().expect("somebody comes");
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).expect("a guest says who it is");
        let mut words = line.trim_end().split(' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        let pid = word().parse().expect("a process id");
        let request_id = word();
        let api = word();
        let (host, path) = api.split_once('/').unwrap_or((&api, ""));
        Guest {
            pid,
            request_id,
            api: (host.to_owned(), format!("/{path}")),
            stream,
        }
    }
}

impl Guest {
    /// Lets it go, with a word to take along.
    pub fn release(mut self) {
        self.stream
            .get_mut()
            .write_all(b"x")
            .expect("it is still here");
    }

    /// Waits until its process has gone.
    pub fn wait_gone(mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("process {} is still there: {error}", self.pid),
        }
    }
}

/// Whether there is no such process, and no zombie.
pub fn is_reaped(pid: i32) -> bool {
    !Path::new("/proc").join(pid.to_string()).exists()
}
