//! The way to one server: its connection, while there is one, who reads from it, and who waits for that.
//!
//! Locks are taken in this order: [`Link::reader`], the cluster's `taking`, [`Link::out`], the client's `calls`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use rustix::event::PollFlags;

use crate::pending::Slot;
use crate::reader::Reader;
use crate::socket::Socket;

/// With fewer followers nobody looks which of them have gone.
const FOLLOWERS_MIN: usize = 64;

/// A server of a cluster, in one of its lives: what one life knew of a session, the next does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Life {
    pub node: u64,
    pub incarnation: u64,
}

pub(crate) struct Link {
    /// Of a server that is alone: zeros.
    pub life: Life,
    pub address: String,
    /// Held by the thread that reads for all whose answers come from this server.
    pub reader: Mutex<Reader>,
    /// Held while frames are numbered and written, so that they are written in the order of their numbers. Nothing
    /// blocks under it.
    out: Mutex<Out>,
    /// Whether something waits to be written.
    backlog: AtomicBool,
    /// Threads that wait, of which the reading one makes one its successor when it has its reply.
    followers: Mutex<Followers>,
    /// When the server was heard last, on the client's clock.
    pub heard_ms: AtomicU64,
    /// When it is to be told next that the client lives.
    pub sign_ms: AtomicU64,
    /// Told by the server.
    pub lease_ms: AtomicU64,
}

#[derive(Default)]
struct Followers {
    slots: Vec<Arc<Slot>>,
    tidy_at: usize,
}

/// The writing side.
#[derive(Default)]
pub(crate) struct Out {
    pub state: State,
    socket: Option<Arc<Socket>>,
    /// What the socket has not taken yet.
    unsent: Vec<u8>,
    /// The number of the present connection, among all of the client; 0: there is none.
    pub connection: u64,
    /// A hello was sent: the server may know the session.
    pub greeted: bool,
    /// A welcome was read: the server knew the session.
    pub welcomed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// Nobody needs it so far.
    #[default]
    Idle,
    /// A thread sees to it.
    Connecting,
    Up,
    /// The server is no member any more, or the client has ended.
    Closed,
}

impl Link {
    pub fn new(life: Life, address: String) -> Arc<Link> {
        Arc::new(Link {
            life,
            address,
            reader: Mutex::new(Reader::default()),
            out: Mutex::default(),
            backlog: AtomicBool::new(false),
            followers: Mutex::default(),
            heard_ms: AtomicU64::new(0),
            sign_ms: AtomicU64::new(0),
            lease_ms: AtomicU64::new(0),
        })
    }

    /// The right to write.
    pub fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock()
    }

    pub fn is_up(&self) -> bool {
        self.out().state == State::Up
    }

    pub fn is_closed(&self) -> bool {
        self.out().state == State::Closed
    }

    /// Begins a connection. What was not written on the last one is forgotten: it is sent anew.
    pub fn connected(&self, out: &mut Out, socket: Arc<Socket>, connection: u64) {
        out.socket = Some(socket);
        out.connection = connection;
        out.state = State::Up;
        out.greeted = true;
        out.welcomed = true;
        out.unsent.clear();
        self.backlog.store(false, Ordering::Release);
    }

    /// Ends the connection.
    pub fn disconnected(&self, out: &mut Out, state: State) {
        if let Some(socket) = out.socket.take() {
            socket.fail();
        }
        out.connection = 0;
        out.unsent = Vec::new();
        if out.state != State::Closed {
            out.state = state;
        }
        self.backlog.store(false, Ordering::Release);
    }

    /// Cuts the connection. Whoever reads sees its end.
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
        let written = if out.unsent.is_empty() {
            socket.write(frame)
        } else {
            0
        };
        if written < frame.len() {
            out.unsent.extend_from_slice(&frame[written..]);
            self.backlog.store(true, Ordering::Release);
        }
    }

    /// Appends frames that [`flush`](Link::flush) writes: many small ones at once.
    pub fn append(&self, out: &mut Out, write: impl FnOnce(&mut Vec<u8>)) {
        if out.socket.is_some() {
            write(&mut out.unsent);
            self.backlog.store(true, Ordering::Release);
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

    /// Somebody waits for whoever reads.
    pub fn follow(&self, slot: &Arc<Slot>) {
        let mut followers = self.followers.lock();
        if followers.slots.len() >= followers.tidy_at.max(FOLLOWERS_MIN) {
            // One thread may read for very long, while others come and go.
            followers.slots.retain(|slot| !slot.is_done());
            followers.tidy_at = 2 * followers.slots.len();
        }
        followers.slots.push(slot.clone());
    }

    /// Makes one of those that wait the one that reads; whether there was one.
    pub fn appoint(&self, appoint: impl Fn(&Slot) -> bool) -> bool {
        let mut followers = self.followers.lock();
        while let Some(follower) = followers.slots.pop() {
            if appoint(&follower) {
                return true;
            }
        }
        false
    }
}
