//! A Redis server on a free port, and the smallest blocking client.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Error;

/// A running server. It is stopped when this is dropped.
pub struct Redis {
    process: Child,
    port: u16,
    _directory: TempDir,
}

/// How long a server may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(10);

impl Redis {
    /// Starts `redis-server`, without persistence.
    pub fn start() -> Result<Redis, Error> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let directory = tempfile::tempdir()?;
        let process = Command::new("redis-server")
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

    /// Connects, as soon as the server answers.
    pub fn connect(&self) -> Result<Connection, Error> {
        let start = Instant::now();
        loop {
            match TcpStream::connect(("127.0.0.1", self.port)) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(Connection {
                        stream,
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

/// A connection, for requests whose replies are short.
pub struct Connection {
    stream: TcpStream,
    reply: Vec<u8>,
}

impl Connection {
    /// Sends a command, and reads its reply up to `ends_with`.
    pub fn request(&mut self, command: &[&[u8]]) -> Result<(), Error> {
        let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
        for word in command {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        self.stream.write_all(&bytes)?;
        self.read_reply()
    }

    /// `+OK`, `:1`, `$5 hello`: one line, or a line and as many bytes as it says.
    fn read_reply(&mut self) -> Result<(), Error> {
        let mut length = 0;
        loop {
            let count = self.stream.read(&mut self.reply[length..])?;
            if count == 0 {
                return Err("redis closed the connection".into());
            }
            length += count;
            if is_whole(&self.reply[..length])? {
                return Ok(());
            }
        }
    }
}

fn is_whole(reply: &[u8]) -> Result<bool, Error> {
    let Some(line) = reply.windows(2).position(|pair| pair == b"\r\n") else {
        return Ok(false);
    };
    match reply[0] {
        b'-' => Err(String::from_utf8_lossy(reply).into()),
        b'$' => {
            let bytes: i64 = std::str::from_utf8(&reply[1..line])?.parse()?;
            let rest = usize::try_from(bytes).map_or(0, |bytes| bytes + 2);
            Ok(reply.len() >= line + 2 + rest)
        }
        _ => Ok(true),
    }
}
