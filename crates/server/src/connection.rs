//! A connection: its socket, and what waits to be written to it.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crucial_cluster::NodeId;
use crucial_core::frame;
use crucial_object::{Error, Sequence};
use mio::net::{TcpStream, UnixStream};
use parking_lot::Mutex;
use std::os::fd::{AsRawFd, RawFd};

use crate::session::Session;

/// A connected socket.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*stream).read(buffer),
            Stream::Unix(stream) => (&*stream).read(buffer),
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*stream).write(bytes),
            Stream::Unix(stream) => (&*stream).write(bytes),
        }
    }

    fn shutdown(&self) {
        // It fails when the other side is gone, which is as good.
        let _ = match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    /// What a poll watches.
    pub fn descriptor(&self) -> RawFd {
        match self {
            Stream::Tcp(stream) => stream.as_raw_fd(),
            Stream::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

/// Another server, at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Other {
    /// What it said of itself.
    pub hello: frame::peer::Hello,
    /// Whether this server connected to it.
    pub is_outgoing: bool,
}

impl Other {
    pub fn node(&self) -> NodeId {
        NodeId(self.hello.from)
    }
}

/// A connection, of a client or another server. Any thread may append replies to it; the loop that reads it and whoever
/// appended write them out.
pub(crate) struct Connection {
    stream: Stream,
    /// Set by the handshake of a client.
    pub session: OnceLock<Arc<Session>>,
    /// Set by the handshake of another server.
    pub other: OnceLock<Other>,
    /// The version of the routes by which its client sends what comes now.
    pub routes: AtomicU64,
    /// The version of the routes that its client was told last.
    routes_told: AtomicU64,
    /// Replies that are not written yet. Held for a copy or one write, never while a method runs.
    outbox: Mutex<Outbox>,
    /// How much that is, for the loop to see without the lock.
    unsent: AtomicUsize,
    /// Whether somebody has it on a list of connections to flush.
    dirty: AtomicBool,
    closed: AtomicBool,
}

#[derive(Default)]
struct Outbox {
    bytes: Vec<u8>,
    /// How much of `bytes` is written.
    written: usize,
    close_after: bool,
}

/// A buffer that has held more is given back when it is empty.
const OUTBOX_KEPT_MAX: usize = 256 << 10;

impl Connection {
    pub fn new(stream: Stream) -> Arc<Connection> {
        Arc::new(Connection {
            stream,
            session: OnceLock::new(),
            other: OnceLock::new(),
            routes: AtomicU64::new(0),
            routes_told: AtomicU64::new(0),
            outbox: Mutex::default(),
            unsent: AtomicUsize::new(0),
            dirty: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        })
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Appends a reply. One that is too large for a frame becomes an error.
    pub fn reply(&self, sequence: Sequence, result: Result<&[u8], &Error>, frame_bytes_max: usize) {
        const HEADER_BYTES: usize = 16;
        if let Ok(bytes) = result
            && bytes.len() + HEADER_BYTES > frame_bytes_max
        {
            let error = Error::LimitExceeded {
                limit: "frame_bytes_max".to_owned(),
                max: frame_bytes_max as u64,
                detail: format!(
                    "the call was executed, but its result of {} bytes can not be sent: read in parts",
                    bytes.len()
                ),
            };
            return self.append(|out| frame::write_reply(sequence, Err(&error), out));
        }
        self.append(|out| frame::write_reply(sequence, result, out));
    }

    /// Appends a frame.
    pub fn append(&self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>) {
        let mut outbox = self.outbox.lock();
        if outbox.close_after || self.closed.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = write(&mut outbox.bytes) {
            tracing::error!(%error, "a frame could not be encoded");
        }
        self.note_unsent(&outbox);
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Whether either handshake was made.
    pub fn is_known(&self) -> bool {
        self.session.get().is_some() || self.other.get().is_some()
    }

    /// Whether its client is to be told the routes of this version; then it is taken to know them.
    pub fn tells_routes(&self, version: u64) -> bool {
        self.routes_told.fetch_max(version, Ordering::AcqRel) < version
    }

    /// Appends that a request was not executed here.
    pub fn moved(&self, sequence: Sequence, routes: u64) {
        self.append(|out| frame::write_moved(sequence, routes, out));
    }

    /// Appends a last frame; the connection closes when it is written.
    pub fn refuse(&self, error: &Error) {
        tracing::debug!(%error, "connection refused");
        self.append(|out| frame::write_refused(error, out));
        self.outbox.lock().close_after = true;
    }

    /// Whether the caller is to put it on its list of connections to flush.
    pub fn mark_dirty(&self) -> bool {
        !self.dirty.swap(true, Ordering::AcqRel)
    }

    /// Writes what can be written without waiting. The rest goes when the loop hears that the socket
    /// takes more.
    pub fn flush(&self) {
        self.dirty.store(false, Ordering::Release);
        let mut outbox = self.outbox.lock();
        while outbox.written < outbox.bytes.len() {
            match self.stream.write(&outbox.bytes[outbox.written..]) {
                Ok(0) => return self.fail(&mut outbox),
                Ok(count) => outbox.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.note_unsent(&outbox);
                }
                Err(_) => return self.fail(&mut outbox),
            }
        }
        outbox.written = 0;
        outbox.bytes.clear();
        outbox.bytes.shrink_to(OUTBOX_KEPT_MAX);
        self.note_unsent(&outbox);
        if outbox.close_after {
            self.fail(&mut outbox);
        }
    }

    fn note_unsent(&self, outbox: &Outbox) {
        let unsent = outbox.bytes.len() - outbox.written;
        self.unsent.store(unsent, Ordering::Relaxed);
    }

    fn fail(&self, outbox: &mut Outbox) {
        *outbox = Outbox::default();
        self.note_unsent(outbox);
        self.close();
    }

    /// Bytes that wait to be written.
    pub fn unsent(&self) -> usize {
        self.unsent.load(Ordering::Relaxed)
    }

    /// Closes the socket; the loop sees its end and forgets the connection.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.stream.shutdown();
    }
}
