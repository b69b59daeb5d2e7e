//! Connections to the servers of a cluster: each that is needed and not there has a thread that sees to it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

use crucial_core::Endpoint;
use crucial_core::frame::{self, Fence, Hello, Operation, Routes};
use crucial_object::{Error, Result, Sequence};

use crate::handshake::{self, BRISK, Dialed, PAUSE_FIRST, PAUSE_LAST};
use crate::keeper::SIGNS_PER_LEASE;
use crate::link::{Life, Link, Out, State};
use crate::pending::Slot;
use crate::reader::{Failure, Reader};
use crate::routes::Cluster;
use crate::{Client, Config, Net};

/// What a connector has to know to say hello.
struct Ask {
    endpoint: Result<Endpoint>,
    config: Config,
    asked: Asked,
}

/// What was said in a hello, and what is to follow it.
pub(crate) struct Asked {
    pub hello: Hello,
    fences: Vec<Fence>,
}

impl Asked {
    /// Nothing follows.
    pub fn alone(hello: Hello) -> Asked {
        Asked {
            hello,
            fences: Vec::new(),
        }
    }
}

impl Client {
    /// Sees to it that there is a connection to this server.
    pub(crate) fn want(&self, link: &Arc<Link>) {
        {
            let mut out = link.out();
            if out.state != State::Idle || self.has_ended() {
                return;
            }
            out.state = State::Connecting;
        }
        let (client, of) = (self.this.clone(), link.clone());
        let thread = std::thread::Builder::new().name("crucial-connect".to_owned());
        if let Err(error) = thread.spawn(move || connect(&client, &of)) {
            tracing::warn!(%error, "no thread to connect with");
            // It is tried again by the keeper.
            link.out().state = State::Idle;
        }
    }

    fn ask(&self, link: &Link) -> Option<Ask> {
        let Net::Cluster(cluster) = &self.net else {
            return None;
        };
        let mut asked = self.hello(cluster);
        let mut out = link.out();
        if out.state != State::Connecting || self.has_ended() {
            return None;
        }
        asked.hello.resume = out.greeted;
        out.greeted = true;
        Some(Ask {
            endpoint: link.address.parse(),
            config: self.config.clone(),
            asked,
        })
    }

    /// What to say to a server. Later routes, and a later attempt, are told when it is connected.
    fn hello(&self, cluster: &Cluster) -> Asked {
        let mut hello = handshake::hello(&self.config, self.session);
        hello.attempt = *self.attempt.lock();
        hello.routes = cluster.table().routes.version;
        let fences: Vec<_> = self.fences.lock().iter().copied().collect();
        if self.config.owner {
            hello.fences = fences.len() as u32;
        }
        Asked { hello, fences }
    }

    /// Somebody has answered at the address of a link; whether that link needs nothing more.
    fn answered(&self, link: &Arc<Link>, asked: &Asked, dialed: Result<Dialed>) -> bool {
        let error = match dialed {
            Ok(dialed) => match self.welcomed(asked, dialed) {
                Ok(of) => return of.is_some_and(|of| Arc::ptr_eq(&of, link)),
                Err(error) => error,
            },
            Err(error) => error,
        };
        tracing::debug!(address = link.address, %error, "no connection");
        match error {
            // It is down, or starts, or does not know the run's owner yet.
            Error::Unavailable { .. } => {}
            Error::Fenced => self.end_with(&Error::Fenced),
            error => self.fail_at(link, &error),
        }
        false
    }

    /// A server has said welcome: takes its routes up, and the connection for the link to it, which is given back.
    fn welcomed(&self, asked: &Asked, dialed: Dialed) -> Result<Option<Arc<Link>>> {
        let Net::Cluster(cluster) = &self.net else {
            return Ok(None);
        };
        let routes = dialed.welcome.routes.clone();
        let life = life_of(&routes, dialed.welcome.node);
        self.hear(routes)?;
        let table = cluster.table();
        // It may live again: then its place is that of its new life.
        let link = table.link_to(life);
        if let Some(link) = &link {
            self.attach(cluster, link, asked, dialed);
        }
        Ok(link)
    }

    /// Uses a connection for a link, and sends what waits for it.
    pub(crate) fn attach(
        &self,
        cluster: &Cluster,
        link: &Arc<Link>,
        asked: &Asked,
        dialed: Dialed,
    ) {
        let mut reader = link.reader.lock();
        let taking = cluster.taking();
        let mut out = link.out();
        if matches!(out.state, State::Up | State::Closed) || self.has_ended() {
            return;
        }
        let socket = Arc::new(dialed.socket);
        self.note_welcome(
            link,
            dialed.welcome.lease_ms,
            dialed.welcome.frame_bytes_max,
        );
        // A server that is new to the session takes it up; one that says no has ended it.
        let has_expired = !dialed.welcome.resumed;
        link.connected(&mut out, socket.clone(), self.next_connection());
        reader.restart(socket, out.connection, dialed.rest);
        let expired = self.catch_up(link, &mut out, asked, has_expired);
        drop(out);
        drop(taking);
        self.fail(expired, &Error::SessionExpired);
        if let Err(error) = self.hand_out(&mut reader) {
            self.lost(link, &mut reader, error.into());
        }
        self.pass_on(link, reader);
    }

    fn note_welcome(&self, link: &Link, lease_ms: u64, frame_bytes_max: u64) {
        let now = self.now_ms();
        self.frame_bytes_max
            .store(frame_bytes_max as usize, Ordering::Relaxed);
        link.lease_ms.store(lease_ms, Ordering::Relaxed);
        link.heard_ms.store(now, Ordering::Relaxed);
        link.sign_ms
            .store(now + lease_ms / SIGNS_PER_LEASE, Ordering::Relaxed);
    }

    /// Tells a server what has changed since the hello, and sends its calls. If it has forgotten the session, those
    /// that were sent before are given back.
    fn catch_up(
        &self,
        link: &Arc<Link>,
        out: &mut Out,
        asked: &Asked,
        has_expired: bool,
    ) -> Vec<Arc<Slot>> {
        let attempt = *self.attempt.lock();
        let mut calls = self.calls.lock();
        link.append(out, |bytes| {
            if asked.hello.routes != calls.version {
                let _ = frame::write_known_routes(calls.version, bytes);
            }
            let begin = attempt.filter(|_| attempt != asked.hello.attempt);
            let begin = begin.map(Operation::Begin);
            let fences = asked.fences.iter().copied().map(Operation::Fence);
            for operation in fences.chain(begin) {
                aside(&operation, bytes, |frame| calls.number(frame, true));
            }
        });
        let expired = match has_expired {
            true => calls.take(|entry| entry.tried && entry.is_for(link)),
            false => Vec::new(),
        };
        let held: Vec<_> = calls.held_objects();
        for object in held {
            let table = self.table();
            let at = table.as_ref().and_then(|t| t.link_of(&object));
            if at.is_some_and(|at| Arc::ptr_eq(at, link)) {
                calls.unhold(&object);
            }
        }
        calls.send(link, out, |entry| entry.is_for(link));
        drop(calls);
        link.flush(out);
        expired
    }

    /// The connection of a link broke: its calls wait for another.
    pub(crate) fn lost(&self, link: &Arc<Link>, reader: &mut Reader, failure: Failure) {
        let Some(connection) = reader.stop() else {
            return;
        };
        tracing::debug!(address = link.address, failure.text, "connection lost");
        if failure.error == Some(Error::Fenced) {
            return self.end_with(&Error::Fenced);
        }
        let refused = failure
            .error
            .filter(|error| !matches!(error, Error::Unavailable { .. }));
        let mut out = link.out();
        if out.connection == connection {
            link.disconnected(&mut out, State::Idle);
        }
        let mut calls = self.calls.lock();
        let failed = match &refused {
            Some(_) => calls.take(|entry| entry.sent == connection),
            None => Vec::new(),
        };
        let now = Instant::now();
        for entry in calls.entries().filter(|entry| entry.sent == connection) {
            entry.strand(now);
        }
        drop(calls);
        drop(out);
        if let Some(error) = refused {
            self.fail(failed, &error);
        }
        match self.ended.get() {
            Some(ended) => self.fail_at(link, ended),
            None => self.want(link),
        }
    }

    /// Fails the calls that wait for this server.
    fn fail_at(&self, link: &Arc<Link>, error: &Error) {
        let slots = self.calls.lock().take(|entry| entry.is_for(link));
        self.fail(slots, error);
    }

    /// There are no calls any more.
    pub(crate) fn end_with(&self, error: &Error) {
        self.end(error.clone());
        self.fail_all(error);
        self.cut_all();
    }

    /// Tries a server that is no member as far as the client knows, as none of the members answers.
    pub(crate) fn scout(&self) {
        let Net::Cluster(cluster) = &self.net else {
            return;
        };
        if cluster.scouting.swap(true, Ordering::AcqRel) {
            return;
        }
        let asked = self.hello(cluster);
        let (client, config) = (self.this.clone(), self.config.clone());
        let thread = std::thread::Builder::new().name("crucial-scout".to_owned());
        let spawned = thread.spawn(move || try_seeds(&client, &config, &asked));
        if spawned.is_err() {
            cluster.scouting.store(false, Ordering::Release);
        }
    }
}

/// Which life a server is in that has these routes.
pub(crate) fn life_of(routes: &Routes, node: u64) -> Option<Life> {
    let server = routes.servers.iter().find(|server| server.node == node)?;
    Some(Life {
        node,
        incarnation: server.incarnation,
    })
}

/// Appends a request whose answer is of no interest: if an attempt that begins is fenced, so is the connection.
fn aside(operation: &Operation, out: &mut Vec<u8>, number: impl FnOnce(&mut [u8]) -> Sequence) {
    let mut frame = Vec::new();
    if frame::write_operation(Sequence(0), Sequence(0), operation, &mut frame).is_ok() {
        number(&mut frame);
        out.extend_from_slice(&frame);
    }
}

/// Runs until there is a connection, or it is not needed any more. It holds the client only while it does something.
fn connect(client: &Weak<Client>, link: &Arc<Link>) {
    let mut pause = PAUSE_FIRST;
    loop {
        let Some(ask) = client.upgrade().and_then(|client| client.ask(link)) else {
            return;
        };
        let dialed = ask.endpoint.and_then(|endpoint| {
            handshake::dial(&endpoint, &ask.config, ask.asked.hello.clone(), BRISK)
                .map_err(|rejected| rejected.error)
        });
        let Some(client) = client.upgrade() else {
            return;
        };
        if client.answered(link, &ask.asked, dialed) {
            return;
        }
        drop(client);
        // Not for synchronisation: a server that starts needs a moment.
        std::thread::sleep(pause);
        pause = (2 * pause).min(PAUSE_LAST);
    }
}

/// Goes through the seeds once, until one answers.
fn try_seeds(client: &Weak<Client>, config: &Config, asked: &Asked) {
    for endpoint in handshake::candidates(config) {
        let dialed = handshake::dial(&endpoint, config, asked.hello.clone(), BRISK);
        let Some(client) = client.upgrade() else {
            return;
        };
        if let Ok(dialed) = dialed
            && let Ok(Some(_)) = client.welcomed(asked, dialed)
        {
            break;
        }
    }
    if let Some(client) = client.upgrade()
        && let Net::Cluster(cluster) = &client.net
    {
        cluster.scouting.store(false, Ordering::Release);
    }
}
