//! A loop's sockets: accepts, reads and splits into requests; writes replies.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use crucial_core::SpinPolicy;
use crucial_core::frame::{self, Request, peer};
use crucial_object::{Error, Sequence};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;

use crate::connection::Connection;
use crate::event_loop::{EventLoop, Loops};
use crate::listener::Listener;
use crate::service::{Effects, Job, Service};
use crate::session::Session;
use crate::slot::Arrival;

const WAKER: Token = Token(usize::MAX - 1);
/// Listeners have the tokens from here on, below the waker's.
const LISTENERS: usize = usize::MAX - 1024;

/// How much one read takes.
const READ_BYTES_MAX: usize = 256 << 10;
const EVENTS_MAX: usize = 1024;

/// How soon to try again when the process is out of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// How soon to look again at a client that does not read its replies.
const UNSENT_RETRY: Duration = Duration::from_millis(10);

pub(crate) struct Io {
    poll: Poll,
    events: Events,
    listeners: Vec<Listener>,
    /// The listeners may have more to accept.
    accepting: bool,
    peers: Slab<Peer>,
    /// Peers that may have more to read.
    readable: VecDeque<usize>,
    /// Requests that are not executed yet.
    work: VecDeque<Work>,
    /// Connections with replies to be written.
    pub dirty: Vec<Arc<Connection>>,
    scratch: Box<[u8]>,
    spin: SpinPolicy,
}

/// A connection, as its loop sees it.
struct Peer {
    connection: Arc<Connection>,
    buffer: BytesMut,
    /// It is in `readable`.
    queued: bool,
}

enum Work {
    /// Of a client.
    Client(Arc<Connection>, Request),
    /// Of another server.
    Peer(Arc<Connection>, peer::Frame),
}

/// What came of reading from a peer.
enum Reading {
    /// There may be more.
    More,
    /// There is no more for now.
    Drained,
    /// Its client does not read; nothing is read from it until it does.
    Held,
    /// It is closed, or broke the protocol.
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
            peers: Slab::new(),
            readable: VecDeque::new(),
            work: VecDeque::new(),
            dirty: Vec::new(),
            scratch: vec![0; READ_BYTES_MAX].into(),
            spin: SpinPolicy::default(),
        })
    }

    pub fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKER)
    }

    /// Takes requests in until one is a job; `None` when there are no more.
    pub fn next_job(&mut self, service: &Service, effects: &mut Effects<'_>) -> Option<Job> {
        while let Some(work) = self.work.pop_front() {
            let job = match work {
                Work::Client(connection, request) => accept(service, connection, request, effects),
                Work::Peer(connection, frame) => service.accept_peer(connection, frame),
            };
            if job.is_some() {
                return job;
            }
        }
        None
    }

    /// Writes replies, then waits for something to do, and reads it.
    pub fn wait(&mut self, loops: &Loops, event_loop: &EventLoop) {
        for connection in self.dirty.drain(..) {
            connection.flush();
        }
        if let Err(error) = self.poll(loops.service.spin) {
            tracing::error!(%error, "poll");
        }
        self.take_events();
        self.adopt(loops, event_loop);
        self.accept(loops);
        self.read(loops);
    }

    fn poll(&mut self, spin: Duration) -> io::Result<()> {
        if let Some(pause) = self.pause() {
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

    /// How long to wait at most, when something is left from the last round.
    fn pause(&self) -> Option<Duration> {
        let held = |index: &usize| {
            self.peers
                .get(*index)
                .is_some_and(|p| p.connection.unsent() > 0)
        };
        if self.readable.iter().any(|index| !held(index)) {
            return Some(Duration::ZERO);
        }
        if !self.readable.is_empty() {
            return Some(UNSENT_RETRY);
        }
        self.accepting.then_some(ACCEPT_RETRY)
    }

    fn take_events(&mut self) {
        for event in &self.events {
            let token = event.token();
            if token == WAKER {
                continue;
            }
            if token.0 >= LISTENERS {
                self.accepting = true;
                continue;
            }
            let Some(peer) = self.peers.get_mut(token.0) else {
                continue;
            };
            if event.is_writable() && peer.connection.unsent() > 0 {
                peer.connection.flush();
            }
            let readable = event.is_readable() || event.is_read_closed() || event.is_error();
            if readable && !peer.queued {
                peer.queued = true;
                self.readable.push_back(token.0);
            }
        }
        self.events.clear();
    }

    fn accept(&mut self, loops: &Loops) {
        if !self.accepting {
            return;
        }
        self.accepting = false;
        for listener in &self.listeners {
            loop {
                match listener.accept() {
                    Ok(stream) => {
                        let connection = Connection::new(stream);
                        loops.service.connected(&connection);
                        loops.assign(connection);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => {
                        tracing::error!(%error, "can not accept connections now");
                        self.accepting = true;
                        break;
                    }
                }
            }
        }
    }

    /// Takes up the connections that were assigned to this loop.
    fn adopt(&mut self, loops: &Loops, event_loop: &EventLoop) {
        let arrivals = std::mem::take(&mut *event_loop.arrivals.lock());
        for connection in arrivals {
            let entry = self.peers.vacant_entry();
            let interest = Interest::READABLE | Interest::WRITABLE;
            let descriptor = connection.stream().descriptor();
            let registered = self.poll.registry().register(
                &mut SourceFd(&descriptor),
                Token(entry.key()),
                interest,
            );
            if let Err(error) = registered {
                tracing::error!(%error, "can not watch a connection");
                connection.close();
                loops.service.disconnected(&connection);
                continue;
            }
            connection.flush();
            self.readable.push_back(entry.key());
            entry.insert(Peer {
                connection,
                buffer: BytesMut::new(),
                queued: true,
            });
        }
    }

    /// Reads once from each peer that may have something.
    fn read(&mut self, loops: &Loops) {
        let service = &loops.service;
        if self.readable.is_empty() {
            return;
        }
        let now_ms = service.now_ms();
        for _ in 0..self.readable.len() {
            let Some(index) = self.readable.pop_front() else {
                return;
            };
            let Some(peer) = self.peers.get_mut(index) else {
                continue;
            };
            match peer.read(&mut self.scratch, service, &mut self.work) {
                Reading::More | Reading::Held => self.readable.push_back(index),
                Reading::Drained => peer.queued = false,
                Reading::Ended => {
                    self.forget(index, service);
                    continue;
                }
            }
            if let Some(session) = self.peers[index].connection.session.get() {
                session.seen(now_ms);
            }
        }
    }

    fn forget(&mut self, index: usize, service: &Service) {
        let peer = self.peers.remove(index);
        // What was refused says why before it closes.
        peer.connection.flush();
        peer.connection.close();
        service.disconnected(&peer.connection);
    }
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

impl Peer {
    fn read(
        &mut self,
        scratch: &mut [u8],
        service: &Service,
        work: &mut VecDeque<Work>,
    ) -> Reading {
        if self.connection.unsent() > service.limits.unsent_bytes_max {
            return Reading::Held;
        }
        let count = match self.connection.stream().read(scratch) {
            Ok(0) => return Reading::Ended,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Reading::Drained,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Reading::More,
            Err(_) => return Reading::Ended,
        };
        self.buffer.extend_from_slice(&scratch[..count]);
        if let Err(error) = self.split(service, work) {
            self.connection.refuse(&error);
            return Reading::Ended;
        }
        // A read that fills less than the buffer has emptied the socket; the poll says when there is
        // more.
        if count < scratch.len() {
            Reading::Drained
        } else {
            Reading::More
        }
    }

    fn split(&mut self, service: &Service, work: &mut VecDeque<Work>) -> Result<(), Error> {
        loop {
            let frame_bytes_max = match (self.connection.session.get(), self.connection.other.get())
            {
                (_, Some(_)) => service.limits.peer_frame_bytes_max,
                (Some(_), _) => service.limits.frame_bytes_max,
                _ => frame::HELLO_BYTES_MAX,
            };
            let Some(frame) = frame::split(&mut self.buffer, frame_bytes_max)? else {
                return Ok(());
            };
            if self.connection.other.get().is_some() || peer::is_of_peer(&frame) {
                self.take_peer(service, peer::decode_frame(frame)?, work)?;
                continue;
            }
            match (frame::decode_request(frame)?, self.connection.session.get()) {
                (Request::Hello { version, hello }, _) => {
                    service.hello(&self.connection, version, hello)?;
                    self.connection.flush();
                }
                (_, None) => {
                    return Err(Error::Protocol {
                        detail: "a request before the hello".to_owned(),
                    });
                }
                (request, Some(_)) => {
                    work.push_back(Work::Client(self.connection.clone(), request));
                }
            }
        }
    }

    fn take_peer(
        &self,
        service: &Service,
        frame: peer::Frame,
        work: &mut VecDeque<Work>,
    ) -> Result<(), Error> {
        match frame {
            peer::Frame::Hello { version, hello } => {
                service.hello_peer(&self.connection, version, hello)?;
                self.connection.flush();
                Ok(())
            }
            frame if self.connection.other.get().is_some() => {
                work.push_back(Work::Peer(self.connection.clone(), frame));
                Ok(())
            }
            _ => Err(Error::Protocol {
                detail: "words of another server before its hello".to_owned(),
            }),
        }
    }
}

fn accept(
    service: &Service,
    connection: Arc<Connection>,
    request: Request,
    effects: &mut Effects<'_>,
) -> Option<Job> {
    let session = connection.session.get()?.clone();
    match request {
        Request::Hello { .. } => None,
        Request::Routes(version) => {
            connection.routes.fetch_max(version, Ordering::Relaxed);
            None
        }
        Request::InFlight(in_flight) => {
            session.waits_for(in_flight);
            None
        }
        Request::Cancel { sequence, object } => {
            let acked = Sequence(0);
            service.withdraw(
                arrive(session, connection, sequence, acked),
                object,
                effects,
            )
        }
        Request::Numbered {
            sequence,
            acked,
            operation,
        } => service.accept(
            arrive(session, connection, sequence, acked),
            operation,
            effects,
        ),
    }
}

fn arrive(
    session: Arc<Session>,
    connection: Arc<Connection>,
    sequence: Sequence,
    acked: Sequence,
) -> Arrival {
    let routes = connection.routes.load(Ordering::Relaxed);
    Arrival {
        session,
        connection,
        sequence,
        acked,
        routes,
        again: false,
    }
}
