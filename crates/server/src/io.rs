//! A loop's sockets: accepts, reads and splits into requests; writes replies.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use crucial_node::{Connection, Input, Job, Outputs};
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
const EVENTS_MAX: usize = 1024;

/// How soon to try again when the process is out of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

pub(crate) struct Io {
    poll: Poll,
    events: Events,
    listeners: Vec<Listener>,
    /// The listeners may have more to accept.
    accepting: bool,
    readers: Slab<Reader>,
    /// Readers that may have more to read.
    readable: VecDeque<usize>,
    /// Requests that are not taken in yet.
    requests: VecDeque<Input>,
    /// Outputs that are not carried out yet.
    pub pending: Outputs,
    scratch: Box<[u8]>,
    spin: SpinPolicy,
}

/// A socket, as its loop sees it.
struct Reader {
    socket: Arc<Socket>,
    buffer: BytesMut,
    /// Whether the reader is in `readable`.
    queued: bool,
    /// The poll has said that the other side sends no more. When it says this together with the last bytes, there is no
    /// further event.
    is_at_end: bool,
}

/// The result of reading from a socket.
enum Reading {
    /// There may be more.
    More,
    /// There is no more for now.
    Drained,
    /// The other side does not read what was sent to it; nothing is read from it until it does.
    Held,
    /// The socket is closed, or the other side broke the protocol.
    Ended,
}

impl Io {
    pub fn new(mut listeners: Vec<Listener>) -> io::Result<Io> {
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
            readers: Slab::new(),
            readable: VecDeque::new(),
            requests: VecDeque::new(),
            pending: Outputs::new(),
            scratch: vec![0; READ_BYTES_MAX].into(),
            spin: SpinPolicy::default(),
        })
    }

    pub fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKER)
    }

    /// Takes requests in until there is a job; `None` when there are no more.
    pub fn next_job(&mut self, shell: &Shell) -> Option<Job> {
        loop {
            if let Some(job) = self.pending.jobs.pop_front() {
                return Some(job);
            }
            let request = self.requests.pop_front()?;
            shell.node.handle(request, shell.now(), &mut self.pending);
        }
    }

    /// Carries outputs out, then waits for something to do, and reads it.
    pub fn wait(&mut self, shell: &Arc<Shell>, queue: &Queue) {
        shell.flush(&mut self.pending);
        if !self.pending.jobs.is_empty() {
            return;
        }
        if let Err(error) = self.poll(shell.spin, shell.limits.unsent_bytes_max) {
            tracing::error!(%error, "poll");
        }
        self.take_events(shell);
        self.adopt(shell, queue);
        self.accept(shell);
        self.read(shell);
    }

    fn poll(&mut self, spin: Duration, unsent_bytes_max: usize) -> io::Result<()> {
        if let Some(pause) = self.pause(unsent_bytes_max) {
            return poll_once(&mut self.poll, &mut self.events, Some(pause));
        }
        if !spin.is_zero() && self.spin.should_spin() {
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
    fn pause(&self, unsent_bytes_max: usize) -> Option<Duration> {
        let is_held = |index: &usize| {
            self.readers
                .get(*index)
                .is_some_and(|reader| reader.socket.unsent() > unsent_bytes_max)
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
            if reader.queued {
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
            let readable = event.is_readable() || event.is_read_closed() || event.is_error();
            if readable && !reader.queued {
                reader.queued = true;
                self.readable.push_back(token.0);
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
                        tracing::error!(%error, "cannot accept connections now");
                        self.accepting = true;
                        break;
                    }
                }
            }
        }
    }

    /// Takes up the sockets that were assigned to this loop.
    fn adopt(&mut self, shell: &Shell, queue: &Queue) {
        for socket in queue.take_sockets() {
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
                forget(&socket, shell, &mut self.pending);
                continue;
            }
            socket.flush();
            self.readable.push_back(entry.key());
            entry.insert(Reader {
                socket,
                buffer: BytesMut::new(),
                queued: true,
                is_at_end: false,
            });
        }
    }

    /// Reads once from each socket that may have something.
    fn read(&mut self, shell: &Arc<Shell>) {
        for _ in 0..self.readable.len() {
            let Some(index) = self.readable.pop_front() else {
                return;
            };
            let Some(reader) = self.readers.get_mut(index) else {
                continue;
            };
            let mut sink = Sink {
                shell,
                requests: &mut self.requests,
                pending: &mut self.pending,
            };
            let reading = reader.read(&mut self.scratch, &mut sink);
            if !matches!(reading, Reading::Held) {
                shell.node.set_seen(&reader.socket.connection, shell.now());
            }
            match reading {
                Reading::More | Reading::Held => self.readable.push_back(index),
                Reading::Drained => reader.queued = false,
                Reading::Ended => {
                    let reader = self.readers.remove(index);
                    // A refusal says why before the socket closes.
                    shell.flush(&mut self.pending);
                    forget(&reader.socket, shell, &mut self.pending);
                }
            }
        }
    }
}

/// A socket is at its end.
fn forget(socket: &Socket, shell: &Shell, pending: &mut Outputs) {
    socket.flush();
    socket.close();
    shell.sockets.remove(socket.connection.id);
    let input = Input::Closed(socket.connection.clone());
    shell.node.handle(input, shell.now(), pending);
}

/// Where frames go that were read.
struct Sink<'a> {
    shell: &'a Arc<Shell>,
    requests: &'a mut VecDeque<Input>,
    pending: &'a mut Outputs,
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
    fn read(&mut self, scratch: &mut [u8], sink: &mut Sink<'_>) -> Reading {
        if self.socket.unsent() > sink.shell.limits.unsent_bytes_max {
            return Reading::Held;
        }
        let count = match self.socket.stream().read(scratch) {
            Ok(0) => return Reading::Ended,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Reading::Drained,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Reading::More,
            Err(_) => return Reading::Ended,
        };
        self.buffer.extend_from_slice(&scratch[..count]);
        if let Err(error) = self.split(sink) {
            sink.shell
                .node
                .refuse(&self.socket.connection, &error, sink.pending);
            return Reading::Ended;
        }
        // A read that fills less than the buffer has emptied the socket; the poll says when there is more.
        if count < scratch.len() && !self.is_at_end {
            Reading::Drained
        } else {
            Reading::More
        }
    }

    /// Splits what was read into frames. Handshakes are taken in at once, since they say how large the next frame may be.
    fn split(&mut self, sink: &mut Sink<'_>) -> Result<(), Error> {
        let connection = &self.socket.connection;
        loop {
            let limits = &sink.shell.limits;
            let frame_bytes_max = match (connection.session(), connection.peer()) {
                (_, Some(_)) => limits.peer_frame_bytes_max,
                (Some(_), _) => limits.frame_bytes_max,
                _ => frame::HELLO_BYTES_MAX,
            };
            let Some(frame) = frame::split(&mut self.buffer, frame_bytes_max)? else {
                return Ok(());
            };
            if connection.peer().is_some() || peer::is_of_peer(&frame) {
                sink.take_peer(connection, peer::decode_frame(frame)?)?;
                continue;
            }
            let request = frame::decode_request(frame)?;
            let is_handshake = matches!(request, Request::Hello { .. });
            let input = Input::Request(connection.clone(), request);
            if is_handshake || connection.session().is_none() {
                sink.take_in(input);
            } else {
                sink.requests.push_back(input);
            }
        }
    }
}

impl Sink<'_> {
    fn take_in(&mut self, input: Input) {
        let shell = self.shell;
        shell.node.handle(input, shell.now(), self.pending);
        shell.flush(self.pending);
    }

    fn take_peer(&mut self, connection: &Arc<Connection>, frame: peer::Frame) -> Result<(), Error> {
        match (frame, connection.peer()) {
            (peer::Frame::Hello { version, hello }, _) => {
                self.take_in(Input::PeerHello(connection.clone(), version, hello));
            }
            (peer::Frame::Messages(bytes), Some(_)) => {
                self.requests
                    .push_back(Input::PeerMessages(connection.clone(), bytes));
            }
            (peer::Frame::Ask { id, body }, Some(peer)) => {
                let (shell, to) = (self.shell.clone(), connection.id);
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
                self.shell.control.on_request(&peer.hello, body, respond);
            }
            (peer::Frame::Refused(error), Some(peer)) => {
                tracing::warn!(node = %peer.node(), %error, "another server refuses");
                self.pending
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
}
