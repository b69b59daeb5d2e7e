//! Connects, says hello and reads the welcome.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use crucial_local::files;
use crucial_object::{Error, Result, system_reason};
use crucial_proto::Endpoint;
use crucial_proto::frame::{self, Hello, Response, Welcome};
use rustix::event::PollFlags;

use super::outage::Outage;
use super::socket::{Socket, Stream};
use crate::config::Config;

/// The longest welcome: it has the cluster's routes.
const WELCOME_BYTES_MAX: usize = 16 << 20;

/// How often a handshake is tried again if its connection breaks.
const HANDSHAKE_TRIES_MAX: u32 = 30;

/// Pauses between attempts: each is twice the one before, from the first to the last.
pub(crate) const PAUSE_FIRST: Duration = Duration::from_millis(5);
pub(crate) const PAUSE_LAST: Duration = Duration::from_millis(500);

/// How long a server may take.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// To accept a connection; `None`: as long as the operating system has patience.
    connect: Option<Duration>,
    /// For its welcome.
    welcome: Duration,
}

/// For a server that is the only one.
pub(crate) const PATIENT: Limits = Limits {
    connect: None,
    welcome: Duration::from_secs(10),
};

/// For one of several.
pub(crate) const BRISK: Limits = Limits {
    connect: Some(Duration::from_secs(1)),
    welcome: Duration::from_secs(2),
};

/// For a welcome, of a client with little patience.
const WELCOME_MIN: Duration = Duration::from_secs(1);

/// A connection whose server has said welcome.
pub(crate) struct Dialed {
    pub socket: Socket,
    pub welcome: Welcome,
    /// Bytes that came behind the welcome.
    pub rest: BytesMut,
}

/// Connects to the first of the configured servers that answers. Those that cannot be reached or are not ready are tried again
/// while the client has patience: they may be about to start.
///
/// # Errors
///
/// The server's error; [`Error::Unavailable`] with the addresses of all servers if none answers.
pub(crate) fn dial_first(config: &Config, hello: &Hello) -> Result<(Endpoint, Dialed)> {
    let limits = match config.seeds.is_empty() {
        true => PATIENT,
        false => BRISK,
    };
    let started = Instant::now();
    let mut pause = PAUSE_FIRST;
    let mut outage = Outage::begin();
    loop {
        let mut errors = Vec::new();
        for endpoint in config.candidates() {
            match dial(&endpoint, config, hello.clone(), limits) {
                Ok(dialed) => {
                    outage.end(config, &endpoint.to_string());
                    return Ok((endpoint, dialed));
                }
                Err(error) => errors.push(error),
            }
        }
        let is_late = |error: &Error| matches!(error, Error::Unavailable { .. });
        let left = config.patience.saturating_sub(started.elapsed());
        if !errors.iter().all(is_late) {
            return Err(all_of(errors));
        }
        if left.is_zero() {
            return Err(given_up(all_of(errors), config.patience));
        }
        outage.go_on(config, &all_of(errors).to_string());
        // Back-off: nothing announces that a server has started.
        std::thread::sleep(pause.min(left));
        pause = (2 * pause).min(PAUSE_LAST);
    }
}

/// The error of one that has waited for a server, with the time.
fn given_up(error: Error, patience: Duration) -> Error {
    match error {
        Error::Unavailable { address, reason } if !patience.is_zero() => {
            let patience = patience.as_secs_f64();
            unavailable(address, format!("{reason}; given up after {patience} s"))
        }
        error => error,
    }
}

/// The error of several servers: what one of them says; otherwise that none of them can be reached.
fn all_of(mut errors: Vec<Error>) -> Error {
    let (mut addresses, mut reasons) = (Vec::new(), Vec::new());
    for error in &errors {
        match error {
            Error::Unavailable { address, reason } => {
                addresses.push(address.clone());
                reasons.push(format!("{address}: {reason}"));
            }
            error => return error.clone(),
        }
    }
    match errors.pop() {
        Some(only) if errors.is_empty() => only,
        _ => unavailable(addresses.join(", "), reasons.join("; ")),
    }
}

/// Connects and says hello.
///
/// # Errors
///
/// [`Error::Unavailable`] if no server answers there, or it is not ready; otherwise that of the server's refusal.
pub(crate) fn dial(
    endpoint: &Endpoint,
    config: &Config,
    hello: Hello,
    limits: Limits,
) -> Result<Dialed> {
    let failed = |error: io::Error| {
        let what = || format!("no connection to the server at {endpoint}");
        files::exhausted(&error, &what())
            .unwrap_or_else(|| unavailable(endpoint, system_reason(&error)))
    };
    if let Endpoint::Unix(path) = endpoint
        && let Some(why) = crucial_local::never_a_server(path)
    {
        return Err(Error::Config {
            detail: format!("no server can be reached at {endpoint}: {why}"),
        });
    }
    // Somebody without patience does not wait for long for one that says nothing.
    let welcome_max = limits.welcome.min(config.patience.max(WELCOME_MIN));
    let mut tries = HANDSHAKE_TRIES_MAX;
    let started = Instant::now();
    loop {
        let stream = open(endpoint, config.local_socket, limits.connect).map_err(failed)?;
        let socket = Socket::new(stream).map_err(failed)?;
        let mut bytes = Vec::new();
        frame::write_hello(&hello, &mut bytes)?;
        // A new socket takes so little at once.
        socket.write(&bytes);
        let mut rest = BytesMut::new();
        tries -= 1;
        match read_welcome(&socket, endpoint, &mut rest, welcome_max) {
            Ok(Ok(Response::Welcome(welcome))) => {
                return Ok(Dialed {
                    socket,
                    welcome,
                    rest,
                });
            }
            // The server does not know by which address it was reached.
            Ok(Ok(Response::Refused(Error::Unavailable { reason, .. }))) => {
                return Err(unavailable(endpoint, reason));
            }
            Ok(Ok(Response::Refused(error)) | Err(error)) => return Err(error),
            Ok(Ok(Response::Reply { .. } | Response::Routes(_) | Response::Moved { .. })) => {
                return Err(Error::Protocol {
                    detail: format!("the server at {endpoint} answered before it said welcome"),
                });
            }
            // Somebody is there, but the connection broke; perhaps behind the hello.
            Err(error)
                if error.kind() != io::ErrorKind::TimedOut
                    && tries > 0
                    && started.elapsed() < config.patience =>
            {
                // Back-off: nothing announces that the server takes connections again.
                std::thread::sleep(PAUSE_FIRST);
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let reason = format!(
                    "something listens there, and said nothing for {} s: it may not be a Crucial server",
                    welcome_max.as_secs()
                );
                return Err(unavailable(endpoint, reason));
            }
            Err(error) => {
                let reason = format!(
                    "the connection ended before a welcome ({}): it may not be a Crucial server",
                    system_reason(&error)
                );
                return Err(unavailable(endpoint, reason));
            }
        }
    }
}

/// The error of a server that cannot be reached.
pub(crate) fn unavailable(address: impl ToString, reason: String) -> Error {
    Error::Unavailable {
        address: address.to_string(),
        reason,
    }
}

fn read_welcome(
    socket: &Socket,
    endpoint: &Endpoint,
    buffer: &mut BytesMut,
    limit: Duration,
) -> io::Result<Result<Response>> {
    let deadline = Instant::now() + limit;
    let mut scratch = [0; 4096];
    loop {
        match frame::split(buffer, WELCOME_BYTES_MAX) {
            Ok(None) => {}
            Ok(Some(frame)) => return Ok(frame::decode_response(frame)),
            Err(_) => {
                return Ok(Err(Error::Protocol {
                    detail: format!(
                        "no Crucial server is at {endpoint}: what listens there does not speak this protocol"
                    ),
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
                socket.wait(PollFlags::IN, Some(left));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn open(endpoint: &Endpoint, local_socket: bool, limit: Option<Duration>) -> io::Result<Stream> {
    let (host, port) = match endpoint {
        Endpoint::Unix(path) => return crucial_local::connect(path).map(Stream::Unix),
        Endpoint::Tcp { host, port } => (host.as_str(), *port),
    };
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match connect(address, local_socket, limit) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Connects to a TCP address: over a Unix socket of the server that answers there, if it has one.
fn connect(address: SocketAddr, local_socket: bool, limit: Option<Duration>) -> io::Result<Stream> {
    if local_socket {
        for path in crucial_local::tcp::of_address(address) {
            match crucial_local::connect(&path) {
                Ok(stream) => return Ok(Stream::Unix(stream)),
                // Mostly there is no such file, or its server was killed.
                Err(error) => tracing::trace!(path = %path.display(), %error, "no local socket"),
            }
        }
    }
    let connected = match limit {
        Some(limit) => TcpStream::connect_timeout(&address, limit),
        None => TcpStream::connect(address),
    };
    connected.map(Stream::Tcp)
}
