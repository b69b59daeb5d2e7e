//! Sockets: each with what waits to be written to it, and a table of all.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crucial_node::{Connection, ConnectionId};
use crucial_proto::frame::peer;
use mio::net::{TcpStream, UnixStream};
use parking_lot::{Mutex, RwLock};

/// A connected stream.
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
        // A shutdown fails when the other side is gone, which is as good.
        let _ = match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    /// The descriptor that a poll watches.
    pub fn descriptor(&self) -> RawFd {
        match self {
            Stream::Tcp(stream) => stream.as_raw_fd(),
            Stream::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

/// A socket. Any thread may send on it; its loop writes what the other side did not take at once.
pub(crate) struct Socket {
    /// The node's state of the connection.
    pub connection: Arc<Connection>,
    stream: Stream,
    /// Held for a copy or one write, never while a method runs.
    outbox: Mutex<Outbox>,
    /// How many bytes wait, for the loop to see without the lock.
    unsent: AtomicUsize,
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

impl Socket {
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Sends frames: as much as the other side takes at once; the loop sends the rest.
    pub fn send(&self, bytes: &[u8]) {
        let mut outbox = self.outbox.lock();
        if outbox.close_after || self.is_closed() {
            return;
        }
        if !outbox.bytes.is_empty() {
            outbox.bytes.extend_from_slice(bytes);
            return self.write_out(&mut outbox);
        }
        let mut written = 0;
        let mut is_noted = false;
        while written < bytes.len() {
            match self.stream.write(&bytes[written..]) {
                Ok(0) => return self.fail(&mut outbox),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !is_noted => {
                    // The loop must know of the rest before the last write that fails. The event after that write is the
                    // only one.
                    self.unsent.store(bytes.len() - written, Ordering::Release);
                    is_noted = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    outbox.bytes.extend_from_slice(&bytes[written..]);
                    return self.note_unsent(&outbox);
                }
                Err(_) => return self.fail(&mut outbox),
            }
        }
        if is_noted {
            self.note_unsent(&outbox);
        }
    }

    /// Writes what waits.
    pub fn flush(&self) {
        self.write_out(&mut self.outbox.lock());
    }

    fn write_out(&self, outbox: &mut Outbox) {
        while outbox.written < outbox.bytes.len() {
            match self.stream.write(&outbox.bytes[outbox.written..]) {
                Ok(0) => return self.fail(outbox),
                Ok(count) => outbox.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.note_unsent(outbox);
                }
                Err(_) => return self.fail(outbox),
            }
        }
        outbox.written = 0;
        outbox.bytes.clear();
        outbox.bytes.shrink_to(OUTBOX_KEPT_MAX);
        self.note_unsent(outbox);
        if outbox.close_after {
            self.close();
        }
    }

    fn note_unsent(&self, outbox: &Outbox) {
        let unsent = outbox.bytes.len() - outbox.written;
        self.unsent.store(unsent, Ordering::Release);
    }

    fn fail(&self, outbox: &mut Outbox) {
        *outbox = Outbox::default();
        self.note_unsent(outbox);
        self.close();
    }

    /// Bytes that wait to be written.
    pub fn unsent(&self) -> usize {
        self.unsent.load(Ordering::Acquire)
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Closes the socket when everything is written.
    pub fn close_when_sent(&self) {
        let mut outbox = self.outbox.lock();
        outbox.close_after = true;
        if outbox.bytes.is_empty() {
            self.close();
        }
    }

    /// Closes the socket; its loop sees the end and forgets it.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.stream.shutdown();
    }
}

/// All sockets of a server, by their ids. Locked for a look-up.
#[derive(Default)]
pub(crate) struct Sockets(RwLock<Table>);

#[derive(Default)]
struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    socket: Option<Arc<Socket>>,
}

impl Sockets {
    /// Takes a stream in. `hello`: with it this server has greeted the other one that it dialed.
    pub fn insert(&self, stream: Stream, hello: Option<peer::Hello>) -> Arc<Socket> {
        let mut table = self.0.write();
        let index = table.free.pop().unwrap_or_else(|| {
            table.slots.push(Slot::default());
            (table.slots.len() - 1) as u32
        });
        let slot = &mut table.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        let id = ConnectionId {
            index,
            generation: slot.generation,
        };
        let connection = match hello {
            Some(hello) => Connection::to_peer(id, hello),
            None => Connection::new(id),
        };
        let socket = Arc::new(Socket {
            connection,
            stream,
            outbox: Mutex::default(),
            unsent: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        });
        slot.socket = Some(socket.clone());
        socket
    }

    pub fn find(&self, id: ConnectionId) -> Option<Arc<Socket>> {
        let table = self.0.read();
        let slot = table.slots.get(id.index as usize)?;
        let socket = slot.socket.as_ref()?;
        (slot.generation == id.generation).then(|| socket.clone())
    }

    pub fn remove(&self, id: ConnectionId) {
        let mut table = self.0.write();
        if let Some(slot) = table.slots.get_mut(id.index as usize)
            && slot.generation == id.generation
            && slot.socket.take().is_some()
        {
            table.free.push(id.index);
        }
    }

    /// Closes all of them.
    pub fn close(&self) {
        let table = self.0.read();
        for socket in table.slots.iter().filter_map(|slot| slot.socket.as_ref()) {
            socket.close();
        }
    }
}
