//! Connections to other servers, each made on a thread of its own.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::BytesMut;
use crucial_proto::frame::{self, peer};

use crate::socket::Stream;

/// How long a connection may take to be made, and the other server to say welcome.
const TIMEOUT: Duration = Duration::from_millis(1000);

/// Longest welcome.
const WELCOME_BYTES_MAX: usize = 4096;

/// Connects to another server and greets it, on a thread of its own. `done` gets the connection, or nothing.
///
/// # Errors
///
/// If there is no thread; then `done` is not called.
pub(crate) fn start(
    address: String,
    hello: peer::Hello,
    done: impl FnOnce(Option<Stream>) + Send + 'static,
) -> io::Result<()> {
    let dial = move || match connect(&address, &hello) {
        Ok(stream) => done(Some(Stream::Tcp(mio::net::TcpStream::from_std(stream)))),
        Err(error) => {
            tracing::debug!(address, %error, "no connection to another server");
            done(None);
        }
    };
    crucial_local::thread::start("crucial-dial", dial).map(drop)
}

fn connect(address: &str, hello: &peer::Hello) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the address has no IP address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => return greet(stream, hello),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn greet(mut stream: TcpStream, hello: &peer::Hello) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut bytes = Vec::new();
    peer::write_hello(hello, &mut bytes).map_err(io::Error::other)?;
    stream.write_all(&bytes)?;
    // Just the welcome: nothing else comes on this side.
    let mut length = [0; frame::LENGTH_BYTES];
    stream.read_exact(&mut length)?;
    let count = frame::peek_length(&length, WELCOME_BYTES_MAX).map_err(io::Error::other)?;
    let mut buffer = BytesMut::zeroed(count.unwrap_or_default());
    stream.read_exact(&mut buffer)?;
    let response = peer::decode_frame(buffer.freeze()).map_err(io::Error::other)?;
    let peer::Frame::Welcome(welcome) = response else {
        return Err(io::Error::other(format!(
            "the other server responds {response:?}"
        )));
    };
    if hello.to != Some((welcome.node, welcome.incarnation)) {
        return Err(io::Error::other("another server responds there"));
    }
    stream.set_read_timeout(None)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}
