//! A Redis server on a free port, and the smallest blocking client.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Error;
use crate::server::on_core;

/// A running server. The server is stopped when the value is dropped.
pub struct Redis {
    process: Child,
    port: u16,
    _directory: TempDir,
}

/// Time limit for a server's first reply.
const START_TIMEOUT: Duration = Duration::from_secs(10);

impl Redis {
    /// Starts `redis-server`, without persistence.
    pub fn start() -> Result<Redis, Error> {
        Redis::start_on(None)
    }

    /// Starts `redis-server`, bound to a core if that is given.
    pub fn start_on(core: Option<usize>) -> Result<Redis, Error> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let directory = tempfile::tempdir()?;
        let process = on_core("redis-server".into(), core)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(directory.path())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("redis-server: {error} (apt-get install redis-server)"))?;
        Ok(Redis {
            process,
            port,
            _directory: directory,
        })
    }

    /// The server's address.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The server's process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Connects, and waits until the server replies.
    pub fn connect(&self) -> Result<Connection, Error> {
        let start = Instant::now();
        loop {
            match TcpStream::connect(self.address()) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(Connection {
                        stream,
                        request: Vec::new(),
                        reply: vec![0; 4096],
                    });
                }
                Err(error) if start.elapsed() > START_TIMEOUT => return Err(error.into()),
                Err(_) => std::thread::yield_now(),
            }
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A connection for requests with short replies.
pub struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl Connection {
    /// Sends a command, and reads its reply.
    pub fn request(&mut self, command: &[&[u8]]) -> Result<(), Error> {
        self.send(command)?;
        self.receive(|reply| Ok(reply_length(reply)?.is_some()))?;
        Ok(())
    }

    /// Sends a command whose reply is a number.
    pub fn integer(&mut self, command: &[&[u8]]) -> Result<usize, Error> {
        self.send(command)?;
        let length = self.receive(|reply| Ok(reply_length(reply)?.is_some()))?;
        let line = std::str::from_utf8(&self.reply[..length])?;
        Ok(line.trim_start_matches(':').trim_end().parse()?)
    }

    /// Sends a command whose reply has this number of lines.
    pub fn request_lines(&mut self, command: &[&[u8]], lines: usize) -> Result<(), Error> {
        self.send(command)?;
        let count = |reply: &[u8]| reply.iter().filter(|byte| **byte == b'\n').count();
        self.receive(|reply| Ok(count(reply) >= lines))?;
        Ok(())
    }

    fn send(&mut self, command: &[&[u8]]) -> Result<(), Error> {
        self.request.clear();
        write_command(command, &mut self.request);
        Ok(self.stream.write_all(&self.request)?)
    }

    /// Reads until the reply is complete, and returns its length.
    fn receive(&mut self, is_whole: impl Fn(&[u8]) -> Result<bool, Error>) -> Result<usize, Error> {
        let mut length = 0;
        loop {
            let count = self.stream.read(&mut self.reply[length..])?;
            if count == 0 {
                return Err("redis closed the connection, or its reply is too long".into());
            }
            length += count;
            if is_whole(&self.reply[..length])? {
                return Ok(length);
            }
        }
    }
}

/// Appends a command.
pub fn write_command(command: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
    for word in command {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// The length of the reply at the beginning of `bytes`, if the reply is complete. A reply (`+OK`, `:1`, `$5 hello`) is
/// one line, or a line with a length and that number of bytes.
pub fn reply_length(bytes: &[u8]) -> Result<Option<usize>, Error> {
    let Some(line) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return Ok(None);
    };
    let whole = match bytes[0] {
        b'-' => return Err(String::from_utf8_lossy(bytes).into()),
        b'$' => {
            let bytes: i64 = std::str::from_utf8(&bytes[1..line])?.parse()?;
            let rest = usize::try_from(bytes).map_or(0, |bytes| bytes + 2);
            line + 2 + rest
        }
        _ => line + 2,
    };
    Ok((whole <= bytes.len()).then_some(whole))
}
