//! The way to one server: its connection, while there is one, who reads from it, and who waits for that.
//!
//! Locks are taken in this order: [`Link::reader`], [`Net::taking`](super::net::Net::taking), [`Link::out`], the session.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use crucial_proto::SpinPolicy;
use parking_lot::{Mutex, MutexGuard};
use rustix::event::PollFlags;

use super::socket::Socket;
use super::waiter::Waiter;
use crate::session::{Member, PendingCall};

/// With fewer followers nobody looks which of them have gone.
const FOLLOWERS_MIN: usize = 64;

/// How much one read takes.
const READ_BYTES_MAX: usize = 128 << 10;

pub(crate) struct Link {
    pub member: Member,
    pub address: String,
    /// Held by the thread that reads for all whose answers come from this server.
    pub reader: Mutex<Reader>,
    /// Held while frames are numbered and written, so that they are written in the order of their numbers. Nothing
    /// blocks under it.
    out: Mutex<Out>,
    /// Whether something waits to be written.
    backlog: AtomicBool,
    /// Whether the server was heard since that was last asked.
    heard: AtomicBool,
    /// Threads that wait, of which the reading one makes one its successor when it has its reply.
    followers: Mutex<Followers>,
}

#[derive(Default)]
struct Followers {
    calls: Vec<Arc<PendingCall<Waiter>>>,
    tidy_at: usize,
}

/// The writing side.
#[derive(Default)]
pub(crate) struct Out {
    socket: Option<Arc<Socket>>,
    /// Bytes that the socket has not taken yet.
    unsent: Vec<u8>,
}

/// The reading side.
#[derive(Default)]
pub(crate) struct Reader {
    /// The present connection, while there is one, and its number.
    socket: Option<(Arc<Socket>, u64)>,
    pub buffer: BytesMut,
    pub scratch: Vec<u8>,
    pub spin: SpinPolicy,
}

impl Reader {
    /// Starts over on a new connection, of which `rest` was read already.
    pub fn restart(&mut self, socket: Arc<Socket>, connection: u64, rest: BytesMut) {
        self.scratch.resize(READ_BYTES_MAX, 0);
        self.socket = Some((socket, connection));
        self.buffer = rest;
    }

    /// The connection is gone; its number.
    pub fn stop(&mut self) -> Option<u64> {
        self.socket.take().map(|(_, connection)| connection)
    }

    pub fn is_up(&self) -> bool {
        self.socket.is_some()
    }

    pub fn socket(&self) -> Option<&Arc<Socket>> {
        self.socket.as_ref().map(|(socket, _)| socket)
    }

    /// The number of the present connection; 0: no connection.
    pub fn connection(&self) -> u64 {
        self.socket
            .as_ref()
            .map_or(0, |(_, connection)| *connection)
    }

    /// Reads what is there into the buffer; `Ok(None)`: nothing.
    pub fn read(&mut self) -> std::io::Result<Option<usize>> {
        let Some((socket, _)) = &self.socket else {
            return Ok(None);
        };
        match socket.read(&mut self.scratch) {
            Ok(count) => {
                self.buffer.extend_from_slice(&self.scratch[..count]);
                Ok(Some(count))
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Link {
    pub fn new(member: Member, address: &str) -> Arc<Link> {
        Arc::new(Link {
            member,
            address: address.to_owned(),
            reader: Mutex::default(),
            out: Mutex::default(),
            backlog: AtomicBool::new(false),
            heard: AtomicBool::new(false),
            followers: Mutex::default(),
        })
    }

    /// The right to write.
    pub fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock()
    }

    /// Begins a connection. What was not written on the last one is forgotten: it is sent anew. `frames` come first.
    pub fn connected(&self, out: &mut Out, socket: Arc<Socket>, frames: Vec<u8>) {
        out.socket = Some(socket);
        out.unsent = frames;
        self.flush(out);
    }

    /// Ends the connection.
    pub fn disconnected(&self, out: &mut Out) {
        if let Some(socket) = out.socket.take() {
            socket.fail();
        }
        out.unsent = Vec::new();
        self.backlog.store(false, Ordering::Release);
    }

    /// Cuts the connection. The reading thread sees its end.
    pub fn cut(&self) {
        if let Some(socket) = &self.out().socket {
            socket.fail();
        }
    }

    /// Writes a frame behind those that wait, if there is a connection.
    pub fn write(&self, out: &mut Out, frame: &[u8]) {
        let Some(socket) = &out.socket else {
            return;
        };
        let written = match out.unsent.is_empty() {
            true => socket.write(frame),
            false => 0,
        };
        if written < frame.len() {
            out.unsent.extend_from_slice(&frame[written..]);
            self.backlog.store(true, Ordering::Release);
        }
    }

    /// Writes frames that `append` appends to those that wait: many small ones at once.
    pub fn write_with(&self, out: &mut Out, append: impl FnOnce(&mut Vec<u8>)) {
        if out.socket.is_some() {
            append(&mut out.unsent);
            self.flush(out);
        }
    }

    /// Writes what waits, as far as the socket takes it.
    pub fn flush(&self, out: &mut Out) {
        if let Some(socket) = &out.socket {
            let written = socket.write(&out.unsent);
            out.unsent.drain(..written);
        }
        self.backlog
            .store(!out.unsent.is_empty(), Ordering::Release);
    }

    /// Whether something waits to be written, and can be.
    pub fn has_backlog(&self) -> bool {
        let backlog = self.backlog.load(Ordering::Acquire);
        // On a broken connection nothing waits: it is sent on the next.
        backlog && self.out().socket.as_ref().is_some_and(|s| !s.is_broken())
    }

    /// The server was heard.
    pub fn set_heard(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Whether the server was heard since the last time this was asked.
    pub fn take_heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }

    /// Waits until the socket can be read, or written if something waits to be; or for `timeout`.
    pub fn wait(&self, socket: &Socket, timeout: Option<Duration>) {
        let has_backlog = self.has_backlog();
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, has_backlog);
        socket.wait(flags, timeout);
        if has_backlog {
            self.flush(&mut self.out());
        }
    }

    /// Waits a moment for the socket to take more, and gives it more.
    pub fn wait_writable(&self) {
        let socket = self.out().socket.clone();
        if let Some(socket) = socket {
            socket.wait(PollFlags::OUT, Some(Duration::from_millis(10)));
        }
        self.flush(&mut self.out());
    }

    /// The thread of this call waits for whoever reads.
    pub fn follow(&self, call: &Arc<PendingCall<Waiter>>) {
        let mut followers = self.followers.lock();
        if followers.calls.len() >= followers.tidy_at.max(FOLLOWERS_MIN) {
            // One thread may read for very long, while others come and go.
            followers.calls.retain(|call| !call.waiter.is_done());
            followers.tidy_at = 2 * followers.calls.len();
        }
        followers.calls.push(call.clone());
    }

    /// Makes one of the threads that wait the one that reads; whether there was one.
    pub fn appoint(&self) -> bool {
        let mut followers = self.followers.lock();
        while let Some(follower) = followers.calls.pop() {
            if follower.waiter.lead(self.member) {
                return true;
            }
        }
        false
    }
}
