//! A load generator: one thread with many connections, each with one request in flight.
//!
//! All peers get the same load, so that only the servers differ.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::Error;

/// One connection's side of a protocol.
pub trait Dialogue {
    /// Appends the request with the number `turn`.
    fn request(&mut self, turn: u64, out: &mut Vec<u8>) -> Result<(), Error>;

    /// The length of the reply at the beginning of `bytes`, if the reply is complete.
    fn reply_length(&mut self, bytes: &[u8]) -> Result<Option<usize>, Error>;
}

/// Connections to one server.
pub struct ClosedLoop<D> {
    poll: Poll,
    connections: Vec<Connection<D>>,
}

struct Connection<D> {
    stream: TcpStream,
    dialogue: D,
    received: Vec<u8>,
    turn: u64,
}

/// Time limit without a reply on any connection.
const SILENCE_MAX: Duration = Duration::from_secs(10);

impl<D: Dialogue> ClosedLoop<D> {
    /// Connects once for each dialogue. Each connection first sends `hello(index)`, and waits for the reply.
    pub fn connect(
        address: SocketAddr,
        dialogues: impl Iterator<Item = (D, Option<Vec<u8>>)>,
    ) -> Result<ClosedLoop<D>, Error> {
        let poll = Poll::new()?;
        let mut connections = Vec::new();
        for (dialogue, hello) in dialogues {
            let stream = std::net::TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            let mut connection = Connection {
                stream: TcpStream::from_std(stream.try_clone()?),
                dialogue,
                received: Vec::new(),
                turn: 0,
            };
            if let Some(hello) = hello {
                connection.greet(&stream, &hello)?;
            }
            stream.set_nonblocking(true)?;
            let token = Token(connections.len());
            poll.registry()
                .register(&mut connection.stream, token, Interest::READABLE)?;
            connections.push(connection);
        }
        Ok(ClosedLoop { poll, connections })
    }

    /// Keeps one request of each connection in flight for this duration, and returns the number of replies. Afterwards
    /// no request is in flight.
    pub fn run(&mut self, time: Duration) -> Result<u64, Error> {
        let mut events = Events::with_capacity(1024);
        let mut scratch = vec![0; 64 << 10];
        let mut request = Vec::new();
        let start = Instant::now();
        let (mut answered, mut in_flight) = (0, self.connections.len());
        for connection in &mut self.connections {
            connection.send(&mut request)?;
        }
        while in_flight > 0 {
            self.poll.poll(&mut events, Some(SILENCE_MAX))?;
            if events.is_empty() {
                return Err("the server does not reply".into());
            }
            let more = start.elapsed() < time;
            for event in &events {
                let connection = &mut self.connections[event.token().0];
                if !connection.receive(&mut scratch)? {
                    continue;
                }
                answered += u64::from(more);
                if more {
                    connection.send(&mut request)?;
                } else {
                    in_flight -= 1;
                }
            }
        }
        Ok(answered)
    }
}

impl<D: Dialogue> Connection<D> {
    fn greet(&mut self, mut stream: &std::net::TcpStream, hello: &[u8]) -> Result<(), Error> {
        stream.write_all(hello)?;
        let mut scratch = [0; 4096];
        while !self.take_reply()? {
            match stream.read(&mut scratch)? {
                0 => return Err("the server closed the connection".into()),
                count => self.received.extend_from_slice(&scratch[..count]),
            }
        }
        Ok(())
    }

    fn send(&mut self, request: &mut Vec<u8>) -> Result<(), Error> {
        request.clear();
        self.dialogue.request(self.turn, request)?;
        self.turn += 1;
        // The socket's buffer has space, since only one small request is in flight.
        self.stream.write_all(request)?;
        Ok(())
    }

    /// Reads available bytes. Returns whether the reply is complete.
    fn receive(&mut self, scratch: &mut [u8]) -> Result<bool, Error> {
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return Err("the server closed the connection".into()),
                Ok(count) => {
                    self.received.extend_from_slice(&scratch[..count]);
                    if self.take_reply()? {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take_reply(&mut self) -> Result<bool, Error> {
        match self.dialogue.reply_length(&self.received)? {
            Some(length) if length == self.received.len() => {
                self.received.clear();
                Ok(true)
            }
            Some(length) => {
                Err(format!("{} bytes follow the reply", self.received.len() - length).into())
            }
            None => Ok(false),
        }
    }
}
