//! A loop's sockets: accepts, reads and splits into requests; writes replies.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use crucial_node::{Connection, Input, Job, Millis, Outputs};
use crucial_object::Error;
use crucial_proto::SpinPolicy;
use crucial_proto::frame::{self, Request, peer};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;

use crate::listener::Listener;
use crate::queues::Queue;
use crate::shell::Shell;
use crate::socket::Socket;

const WAKER: Token = Token(usize::MAX - 1);
/// Listeners have the tokens from here on, below the waker's.
const LISTENERS: usize = usize::MAX - 1024;

/// How much one read takes.
const READ_BYTES_MAX: usize = 256 << 10;

/// With more frames than this to be written, they are written before anything else is executed.
const UNWRITTEN_BYTES_MAX: usize = 1 << 20;
const EVENTS_MAX: usize = 1024;

/// How soon to try again when the process is out of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// How often somebody is told that no connection can be accepted, in milliseconds.
const COMPLAINT_PAUSE_MS: Millis = 10_000;

pub(crate) struct Io {
    poll: Poll,
    events: Events,
    listeners: Vec<Listener>,
    /// The listeners may have more to accept.
    accepting: bool,
    /// When somebody was told last that no connection can be accepted.
    complained: Option<Millis>,
    readers: Slab<Reader>,
    /// Readers that are to be read from.
    readable: VecDeque<usize>,
    /// Readers with bytes that are not split into frames yet, in the order of their turns.
    splitting: VecDeque<usize>,
    /// Outputs that are not carried out yet.
    pub pending: Outputs,
    scratch: Box<[u8]>,
    spin: SpinPolicy,
    purpose: Purpose,
}

/// What a loop is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Clients, and other servers' messages about partitions.
    Work,
    /// Other servers' requests to the control group. None of them takes long.
    Control,
}

/// A socket, as its loop sees it.
struct Reader {
    socket: Arc<Socket>,
    buffer: BytesMut,
    /// Whether the buffer has no whole frame.
    is_split: bool,
    place: Place,
    /// Whether the socket may have more, for which there will be no further event.
    has_more: bool,
    /// The poll has said that the other side sends no more. When it says this together with the last bytes, there is no
    /// further event.
    is_at_end: bool,
}

/// Which of the loop's queues a reader is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In none, until an event comes.
    Idle,
    /// In `readable`.
    Readable,
    /// In `splitting`.
    Splitting,
}

impl Io {
    pub fn new(mut listeners: Vec<Listener>, purpose: Purpose) -> io::Result<Io> {
        let poll = Poll::new()?;
        for (index, listener) in listeners.iter_mut().enumerate() {
            let token = Token(LISTENERS + index);
            poll.registry()
                .register(listener.source(), token, Interest::READABLE)?;
        }
        Ok(Io {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            listeners,
            accepting: false,
            complained: None,
            readers: Slab::new(),
            readable: VecDeque::new(),
            splitting: VecDeque::new(),
            pending: Outputs::new(),
            scratch: vec![0; READ_BYTES_MAX].into(),
            spin: SpinPolicy::default(),
            purpose,
        })
    }

    pub fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKER)
    }

    /// Takes frames in until there is a job; `None` when there are no more.
    ///
    /// Readers have turns, of one frame each. One whose client does not read its replies has none, so that what waits to
    /// be sent is bounded whatever the requests in its buffer ask for.
    pub fn next_job(&mut self, shell: &Arc<Shell>) -> Option<Job> {
        loop {
            if let Some(job) = self.pending.jobs.pop_front() {
                return Some(job);
            }
            let index = self.splitting.pop_front()?;
            let Some(reader) = self.readers.get_mut(index) else {
                continue;
            };
            if reader.is_held(shell) {
                reader.place = Place::Readable;
                self.readable.push_back(index);
                continue;
            }
            match reader.take_frame(shell, &mut self.pending) {
                Ok(true) if self.purpose == Purpose::Work && reader.is_of_control() => {
                    self.hand_to_control(index, shell);
                }
                Ok(true) => self.splitting.push_back(index),
                Ok(false) if reader.has_more => {
                    reader.place = Place::Readable;
                    self.readable.push_back(index);
                }
                Ok(false) => reader.place = Place::Idle,
                Err(error) => {
                    let connection = &reader.socket.connection;
                    shell.node.refuse(connection, &error, &mut self.pending);
                    self.end(index, shell);
                }
            }
        }
    }

    /// Whether outputs have to be carried out before more is executed.
    pub fn is_full(&self) -> bool {
        self.pending.frames.len() > UNWRITTEN_BYTES_MAX
    }

    /// Carries outputs out, then waits for something to do, and reads it.
    pub fn wait(&mut self, shell: &Arc<Shell>, queue: &Queue) {
        shell.flush(&mut self.pending);
        if !self.pending.jobs.is_empty() {
            return;
        }
        let polled = self.poll(shell);
        self.take_up(polled, shell, queue);
    }

    /// Carries outputs out, and reads what has come meanwhile, without waiting.
    pub fn catch_up(&mut self, shell: &Arc<Shell>, queue: &Queue) {
        shell.flush(&mut self.pending);
        let polled = poll_once(&mut self.poll, &mut self.events, Some(Duration::ZERO));
        self.take_up(polled, shell, queue);
    }

    fn take_up(&mut self, polled: io::Result<()>, shell: &Arc<Shell>, queue: &Queue) {
        if let Err(error) = polled {
            tracing::error!(%error, "poll");
        }
        self.take_events(shell);
        self.adopt(shell, queue);
        self.accept(shell);
        self.read(shell);
    }

    fn poll(&mut self, shell: &Shell) -> io::Result<()> {
        if let Some(pause) = self.pause(shell) {
            return poll_once(&mut self.poll, &mut self.events, Some(pause));
        }
        let spin = shell.spin;
        let may_spin = self.purpose == Purpose::Work && !spin.is_zero();
        if may_spin && self.spin.should_spin() {
            let start = Instant::now();
            while self.events.is_empty() && start.elapsed() < spin {
                poll_once(&mut self.poll, &mut self.events, Some(Duration::ZERO))?;
            }
            self.spin.spun(!self.events.is_empty());
            if !self.events.is_empty() {
                return Ok(());
            }
        }
        poll_once(&mut self.poll, &mut self.events, None)
    }

    /// How long to wait at most, when something is left from the last round. A client that does not read its replies can
    /// be read from again when its socket has become writable, which is an event.
    fn pause(&self, shell: &Shell) -> Option<Duration> {
        let is_held = |index: &usize| {
            let reader = self.readers.get(*index);
            reader.is_some_and(|reader| reader.is_held(shell))
        };
        match self.readable.iter().all(is_held) {
            true => self.accepting.then_some(ACCEPT_RETRY),
            false => Some(Duration::ZERO),
        }
    }

    fn take_events(&mut self, shell: &Shell) {
        for event in &self.events {
            let token = event.token();
            if token == WAKER {
                continue;
            }
            if token.0 >= LISTENERS {
                self.accepting = true;
                continue;
            }
            let Some(reader) = self.readers.get_mut(token.0) else {
                continue;
            };
            if reader.place != Place::Idle {
                // A sign of life, also while nothing is read from a client because it does not read its replies.
                shell.node.set_seen(&reader.socket.connection, shell.now());
            }
            if event.is_writable() {
                if reader.socket.unsent() > 0 {
                    reader.socket.flush();
                }
                shell.on_drained(&reader.socket);
            }
            reader.is_at_end |= event.is_read_closed();
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                reader.has_more = true;
                if reader.place == Place::Idle {
                    reader.place = Place::Readable;
                    self.readable.push_back(token.0);
                }
            }
        }
        self.events.clear();
    }

    fn accept(&mut self, shell: &Arc<Shell>) {
        if !self.accepting {
            return;
        }
        self.accepting = false;
        for listener in &self.listeners {
            loop {
                match listener.accept() {
                    Ok(stream) => {
                        let socket = shell.sockets.insert(stream, None);
                        let input = Input::Connected(socket.connection.clone());
                        shell.node.handle(input, shell.now(), &mut self.pending);
                        shell.queues.assign(socket);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => {
                        let now = shell.now();
                        let is_told = |last: Millis| now.saturating_sub(last) < COMPLAINT_PAUSE_MS;
                        if !self.complained.is_some_and(is_told) {
                            self.complained = Some(now);
                            tracing::error!(
                                %error,
                                "no connection can be accepted now: those that come wait until others end"
                            );
                        }
                        self.accepting = true;
                        break;
                    }
                }
            }
        }
    }

    /// Takes up the sockets that were assigned to this loop.
    fn adopt(&mut self, shell: &Shell, queue: &Queue) {
        for (socket, buffer) in queue.take_sockets() {
            let entry = self.readers.vacant_entry();
            let interest = Interest::READABLE | Interest::WRITABLE;
            let descriptor = socket.stream().descriptor();
            let registered = self.poll.registry().register(
                &mut SourceFd(&descriptor),
                Token(entry.key()),
                interest,
            );
            if let Err(error) = registered {
                tracing::error!(%error, "cannot watch a connection");
                close(&socket, shell, &mut self.pending);
                continue;
            }
            socket.flush();
            self.readable.push_back(entry.key());
            entry.insert(Reader {
                socket,
                is_split: buffer.is_empty(),
                buffer,
                place: Place::Readable,
                has_more: true,
                is_at_end: false,
            });
        }
    }

    /// Reads once from each socket that may have something, unless there is something left of the last time.
    fn read(&mut self, shell: &Arc<Shell>) {
        for _ in 0..self.readable.len() {
            let Some(index) = self.readable.pop_front() else {
                return;
            };
            let Some(reader) = self.readers.get_mut(index) else {
                continue;
            };
            if reader.is_held(shell) {
                self.readable.push_back(index);
                continue;
            }
            if reader.is_split && !reader.read(&mut self.scratch) {
                self.end(index, shell);
                continue;
            }
            shell.node.set_seen(&reader.socket.connection, shell.now());
            if !reader.is_split {
                reader.place = Place::Splitting;
                self.splitting.push_back(index);
            } else if reader.has_more {
                self.readable.push_back(index);
            } else {
                reader.place = Place::Idle;
            }
        }
    }

    /// Gives a socket to the loop of the control group. Its reader is in no queue.
    fn hand_to_control(&mut self, index: usize, shell: &Shell) {
        let reader = self.readers.remove(index);
        let descriptor = reader.socket.stream().descriptor();
        let forgotten = self.poll.registry().deregister(&mut SourceFd(&descriptor));
        if let Err(error) = forgotten {
            tracing::error!(%error, "cannot give a connection to another thread");
            return close(&reader.socket, shell, &mut self.pending);
        }
        let assigned = (reader.socket, reader.buffer);
        shell.queues.assign_to_control(assigned);
    }

    /// A socket is at its end.
    fn end(&mut self, index: usize, shell: &Arc<Shell>) {
        let reader = self.readers.remove(index);
        // A refusal says why before the socket closes.
        shell.flush(&mut self.pending);
        close(&reader.socket, shell, &mut self.pending);
    }
}

fn close(socket: &Socket, shell: &Shell, pending: &mut Outputs) {
    socket.flush();
    socket.close();
    shell.sockets.remove(socket.connection.id);
    let input = Input::Closed(socket.connection.clone());
    shell.node.handle(input, shell.now(), pending);
}

fn poll_once(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
    match poll.poll(events, timeout) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        polled => polled,
    }
}

/// Whether an error of `accept` concerns just the connection that was next.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

impl Reader {
    /// Whether the other side does not read what was sent to it: nothing is taken from it until it does.
    fn is_held(&self, shell: &Shell) -> bool {
        self.socket.unsent() > shell.limits.unsent_bytes_max
    }

    /// Whether another server sends requests to the control group on it.
    fn is_of_control(&self) -> bool {
        let peer = self.socket.connection.peer();
        peer.is_some_and(|peer| peer.hello.to.is_none())
    }

    /// Reads once. False: the socket is closed.
    fn read(&mut self, scratch: &mut [u8]) -> bool {
        let count = match self.socket.stream().read(scratch) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.has_more = false;
                return true;
            }
            Err(_) => return false,
        };
        self.buffer.extend_from_slice(&scratch[..count]);
        self.is_split = false;
        // A read that fills less than the buffer has emptied the socket; the poll says when there is more.
        self.has_more = count == scratch.len() || self.is_at_end;
        true
    }

    /// Takes one frame in; false if there is no whole one.
    fn take_frame(&mut self, shell: &Arc<Shell>, pending: &mut Outputs) -> Result<bool, Error> {
        let connection = &self.socket.connection;
        let limits = &shell.limits;
        let frame_bytes_max = match (connection.session(), connection.peer()) {
            (_, Some(_)) => limits.peer_frame_bytes_max,
            (Some(_), _) => limits.frame_bytes_max,
            _ => frame::HELLO_BYTES_MAX,
        };
        let Some(frame) = frame::split(&mut self.buffer, frame_bytes_max)? else {
            self.is_split = true;
            return Ok(false);
        };
        if connection.peer().is_some() || peer::is_of_peer(&frame) {
            take_peer(connection, peer::decode_frame(frame)?, shell, pending)?;
        } else {
            let request = frame::decode_request(frame)?;
            let is_hello = matches!(request, Request::Hello { .. });
            let input = Input::Request(connection.clone(), request);
            shell.node.handle(input, shell.now(), pending);
            if is_hello {
                // What comes behind is for a connection that has its welcome.
                shell.flush(pending);
            }
        }
        Ok(true)
    }
}

fn take_peer(
    connection: &Arc<Connection>,
    frame: peer::Frame,
    shell: &Arc<Shell>,
    pending: &mut Outputs,
) -> Result<(), Error> {
    match (frame, connection.peer()) {
        (peer::Frame::Hello { version, hello }, _) => {
            let input = Input::PeerHello(connection.clone(), version, hello);
            shell.node.handle(input, shell.now(), pending);
            shell.flush(pending);
        }
        (peer::Frame::Messages(bytes), Some(_)) => {
            let input = Input::PeerMessages(connection.clone(), bytes);
            shell.node.handle(input, shell.now(), pending);
        }
        (peer::Frame::Ask { id, body }, Some(peer)) => {
            let (to, shell) = (connection.id, shell.clone());
            let control = shell.control.clone();
            let respond = Box::new(move |body: Vec<u8>| {
                let mut frame = Vec::new();
                match peer::write_answer(id, &body, &mut frame) {
                    Ok(()) => {
                        if let Some(socket) = shell.sockets.find(to) {
                            socket.send(&frame);
                        }
                    }
                    Err(error) => tracing::error!(%error, "a response cannot be encoded"),
                }
            });
            control.on_request(&peer.hello, body, respond);
        }
        (peer::Frame::Refused(error), Some(peer)) => {
            tracing::warn!(node = %peer.node(), %error, "another server refuses");
            pending
                .rest
                .push(crucial_node::Output::Close(connection.id));
        }
        (_, Some(_)) => {}
        (_, None) => {
            return Err(Error::Protocol {
                detail: "a peer message before the handshake".to_owned(),
            });
        }
    }
    Ok(())
}
