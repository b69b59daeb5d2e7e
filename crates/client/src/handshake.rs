//! Connects, and connects again.

use std::io;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use crucial_core::frame::{self, Attempt, Hello, Response, Welcome};
use crucial_core::{Endpoint, local};
use crucial_object::{Error, Result, SessionId};

use crate::reader::Reader;
use crate::socket::{Socket, Stream};
use crate::{Client, Config};

/// How long a server may take for its welcome.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a handshake is tried whose connection breaks.
const HANDSHAKE_TRIES_MAX: u32 = 5;

/// Pauses between attempts: each is twice the one before, from the first to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(5);
const PAUSE_LAST: Duration = Duration::from_millis(500);

/// Connects and says hello. Gives the bytes that came behind the welcome, too.
pub(crate) fn connect(
    config: &Config,
    session: SessionId,
    resume: bool,
    attempt: Option<Attempt>,
) -> Result<(Socket, Welcome, BytesMut)> {
    let unavailable = |reason: String| Error::Unavailable {
        address: config.endpoint.to_string(),
        reason,
    };
    let failed = |error: io::Error| unavailable(error.to_string());
    let mut hello = Hello {
        session,
        resume,
        run: config.run,
        owner: config.owner,
        namespace: config.namespace.clone(),
        attempt,
    };
    let mut tries = HANDSHAKE_TRIES_MAX;
    let started = Instant::now();
    loop {
        let stream = open(config).map_err(failed)?;
        let socket = Socket::new(stream).map_err(failed)?;
        let mut bytes = Vec::new();
        frame::write_hello(&hello, &mut bytes)?;
        socket.write(&bytes);
        let mut buffer = BytesMut::new();
        tries -= 1;
        match read_welcome(&socket, &mut buffer) {
            Ok(Ok(Response::Welcome(welcome))) => return Ok((socket, welcome, buffer)),
            // The server does not know by which address it was reached.
            Ok(Ok(Response::Refused(Error::Unavailable { reason, .. }))) => {
                return Err(unavailable(reason));
            }
            Ok(Ok(Response::Refused(error)) | Err(error)) => return Err(error),
            Ok(Ok(Response::Reply { .. })) => {
                return Err(Error::Protocol {
                    detail: "the server answered before it said welcome".to_owned(),
                });
            }
            // Somebody is there, but the connection broke; perhaps behind the hello.
            Err(_) if tries > 0 && started.elapsed() < config.patience => {
                hello.resume = true;
                std::thread::sleep(PAUSE_FIRST);
            }
            Err(error) => return Err(failed(error)),
        }
    }
}

fn read_welcome(socket: &Socket, buffer: &mut BytesMut) -> io::Result<Result<Response>> {
    let deadline = Instant::now() + WELCOME_TIMEOUT;
    let mut scratch = [0; 4096];
    loop {
        match frame::split(buffer, frame::HELLO_BYTES_MAX) {
            Ok(None) => {}
            Ok(Some(frame)) => return Ok(frame::decode_response(frame)),
            Err(_) => {
                return Ok(Err(Error::Protocol {
                    detail: "what answers there is no Crucial server".to_owned(),
                }));
            }
        }
        match socket.read(&mut scratch) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => buffer.extend_from_slice(&scratch[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                socket.wait(Some(left));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn open(config: &Config) -> io::Result<Stream> {
    match &config.endpoint {
        Endpoint::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path)?)),
        Endpoint::Tcp { host, port } => {
            if config.local_socket
                && is_loopback(host)
                && let Some(path) = local_socket(*port)
                && let Ok(stream) = UnixStream::connect(path)
            {
                return Ok(Stream::Unix(stream));
            }
            Ok(Stream::Tcp(TcpStream::connect((host.as_str(), *port))?))
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// The Unix socket of a local server, in a directory that nobody else can have made.
fn local_socket(port: u16) -> Option<PathBuf> {
    let user = rustix::process::getuid().as_raw();
    let directory = local::directory(user);
    let ours = std::fs::symlink_metadata(&directory).ok()?.uid() == user;
    ours.then(|| local::socket(&directory, port))
}

impl Client {
    /// The connection broke: makes another, and sends on it what was not answered. If that takes
    /// longer than the client's patience, or the server has forgotten the session, the calls in flight
    /// fail.
    pub(crate) fn reconnect(&self, reader: &mut Reader, failure: &str) {
        self.socket().fail();
        tracing::debug!(endpoint = %self.config.endpoint, failure, "connection lost");
        let started = Instant::now();
        let mut pause = PAUSE_FIRST;
        loop {
            if let Some(ended) = self.ended.get() {
                return self.fail_all(ended);
            }
            let attempt = *self.attempt.lock();
            match connect(&self.config, self.session, true, attempt) {
                Ok((socket, welcome, rest)) => {
                    reader.restart(rest);
                    return self.resume(Arc::new(socket), &welcome);
                }
                Err(Error::Unavailable { .. })
                    if started.elapsed() + pause < self.config.patience =>
                {
                    // Not for synchronisation: a server that is starting again needs a moment.
                    std::thread::sleep(pause);
                    pause = (2 * pause).min(PAUSE_LAST);
                }
                Err(error) => {
                    // A thread that was fenced stays so.
                    if error == Error::Fenced {
                        self.end(Error::Fenced);
                    }
                    return self.fail_all(&error);
                }
            }
        }
    }

    fn resume(&self, socket: Arc<Socket>, welcome: &Welcome) {
        self.frame_bytes_max
            .store(welcome.frame_bytes_max as usize, Ordering::Relaxed);
        self.lease_ms.store(welcome.lease_ms, Ordering::Relaxed);
        if !welcome.resumed {
            self.fail_all(&Error::SessionExpired);
        }
        // A call that is made meanwhile finds the new socket, and its frame comes behind the old ones.
        let mut unsent = socket.lock();
        *self.socket.lock() = socket.clone();
        let calls = self.calls.lock();
        let acked = calls.acked();
        for slot in calls.in_flight.values() {
            let start = unsent.len();
            unsent.extend_from_slice(&slot.frame);
            frame::set_acked(&mut unsent[start..], acked);
        }
        drop(calls);
        drop(unsent);
        socket.flush();
    }
}
