//! Replies: one thread at a time reads them for all whose calls are at the same server.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use crucial_core::SpinPolicy;
use crucial_core::frame::{self, Response};
use crucial_object::{Error, Result, Sequence};
use parking_lot::MutexGuard;

use crate::link::Link;
use crate::pending::{Slot, Woken};
use crate::socket::Socket;
use crate::{Client, Net};

/// How much one read takes.
const READ_BYTES_MAX: usize = 128 << 10;

/// In a cluster, whoever reads looks so often whether its call is elsewhere now.
const LOOK_AROUND: Duration = Duration::from_millis(50);

/// The state of whoever reads.
#[derive(Default)]
pub(crate) struct Reader {
    /// The present connection, while there is one, and its number.
    socket: Option<(Arc<Socket>, u64)>,
    buffer: BytesMut,
    scratch: Vec<u8>,
    spin: SpinPolicy,
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

    pub fn socket(&self) -> Option<Arc<Socket>> {
        self.socket.as_ref().map(|(socket, _)| socket.clone())
    }
}

/// Why a connection is of no use any more.
pub(crate) struct Failure {
    pub text: String,
    /// What its calls are to fail with: they would fail again on another connection.
    pub error: Option<Error>,
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Failure { text, error: None }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure {
            text: error.to_string(),
            error: Some(error),
        }
    }
}

impl Client {
    /// Waits for the result of a call.
    pub(crate) fn wait(&self, slot: &Arc<Slot>) -> Result<Vec<u8>> {
        match &self.net {
            Net::Alone(link) => self.wait_at(link, slot),
            Net::Cluster(_) => self.wait_until(slot, None),
        }
    }

    fn wait_at(&self, link: &Arc<Link>, slot: &Arc<Slot>) -> Result<Vec<u8>> {
        loop {
            if let Some(mut reader) = link.reader.try_lock() {
                self.read_until(link, &mut reader, None, || slot.is_done());
                self.pass_on(link, reader);
                return slot.take();
            }
            link.follow(slot);
            // The reader may have left before it could see this follower.
            if let Some(reader) = link.reader.try_lock() {
                self.pass_on(link, reader);
                if slot.is_done() {
                    return slot.take();
                }
                continue;
            }
            if slot.follow(None) == Woken::Done {
                return slot.take();
            }
        }
    }

    /// Waits for the result of a call in a cluster, wherever it is; at most until then.
    pub(crate) fn wait_until(&self, slot: &Arc<Slot>, until: Option<Instant>) -> Result<Vec<u8>> {
        while !slot.is_done() {
            let woken = match slot.look() {
                None => slot.follow(until),
                Some(link) => self.wait_near(&link, slot, until),
            };
            if woken == Woken::Late {
                return Err(Error::TimedOut {
                    after: Duration::ZERO,
                });
            }
        }
        slot.take()
    }

    /// Waits for a call while it is at this server.
    fn wait_near(&self, link: &Arc<Link>, slot: &Arc<Slot>, until: Option<Instant>) -> Woken {
        let elsewhere = || slot.is_not_at(link);
        if let Some(mut reader) = link.reader.try_lock()
            && reader.is_up()
        {
            let limit = until.map(|until| until.saturating_duration_since(Instant::now()));
            self.read_until(link, &mut reader, limit, elsewhere);
            self.pass_on(link, reader);
            return match until {
                Some(until) if until <= Instant::now() && !slot.is_done() => Woken::Late,
                _ => Woken::Moved,
            };
        }
        link.follow(slot);
        // The reader may have left before it could see this follower.
        if let Some(reader) = link.reader.try_lock()
            && reader.is_up()
        {
            self.pass_on(link, reader);
            return Woken::Moved;
        }
        let woken = slot.follow(until);
        let leads = woken == Woken::Lead || slot.take_lead();
        if leads
            && (woken == Woken::Late || elsewhere())
            && let Some(reader) = link.reader.try_lock()
        {
            // It was to read, and will not.
            self.pass_on(link, reader);
        }
        woken
    }

    /// Reads for all until `done`, or for `limit`, or while there is a connection.
    pub(crate) fn read_until(
        &self,
        link: &Arc<Link>,
        reader: &mut Reader,
        limit: Option<Duration>,
        done: impl Fn() -> bool,
    ) {
        let start = Instant::now();
        while reader.is_up() && !done() {
            if self.take_replies(link, reader) {
                continue;
            }
            let left = match limit {
                Some(limit) => match limit.checked_sub(start.elapsed()) {
                    Some(left) => Some(left),
                    None => return,
                },
                None => None,
            };
            self.wait_readable(link, reader, left);
        }
    }

    /// Reads once, if there is something within a moment.
    pub(crate) fn read_once(&self, link: &Arc<Link>, reader: &mut Reader) {
        if !self.take_replies(link, reader)
            && let Some(socket) = reader.socket()
        {
            link.wait(&socket, Some(Duration::from_millis(10)));
            self.take_replies(link, reader);
        }
    }

    fn wait_readable(&self, link: &Arc<Link>, reader: &mut Reader, limit: Option<Duration>) {
        let spin = self.config.spin;
        if !spin.is_zero() && !link.has_backlog() && reader.spin.should_spin() {
            let start = Instant::now();
            let mut found = false;
            while !found && start.elapsed() < spin {
                found = self.take_replies(link, reader);
            }
            reader.spin.spun(found);
            if found {
                return;
            }
        }
        let limit = match &self.net {
            Net::Alone(_) => limit,
            Net::Cluster(_) => Some(limit.unwrap_or(LOOK_AROUND).min(LOOK_AROUND)),
        };
        if let Some((socket, _)) = &reader.socket {
            link.wait(socket, limit);
        }
    }

    /// Reads what is there and hands it out; whether there was something.
    pub(crate) fn take_replies(&self, link: &Arc<Link>, reader: &mut Reader) -> bool {
        let Some((socket, _)) = &reader.socket else {
            return false;
        };
        let failure: Failure = match socket.read(&mut reader.scratch) {
            Ok(0) => "the server closed the connection".to_owned().into(),
            Ok(count) => {
                reader.buffer.extend_from_slice(&reader.scratch[..count]);
                if let Net::Cluster(_) = self.net {
                    link.heard_ms.store(self.now_ms(), Ordering::Relaxed);
                }
                match self.hand_out(reader) {
                    Ok(()) => return true,
                    // What was refused once would be refused again.
                    Err(error) => error.into(),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(error) => error.to_string().into(),
        };
        match &self.net {
            Net::Alone(_) => {
                if let Some(error) = &failure.error {
                    self.fail_all(error);
                }
                self.reconnect(link, reader, &failure.text);
            }
            Net::Cluster(_) => self.lost(link, reader, failure),
        }
        true
    }

    /// Hands out the frames that are there.
    pub(crate) fn hand_out(&self, reader: &mut Reader) -> Result<()> {
        while let Some(frame) = frame::split(&mut reader.buffer, u32::MAX as usize)? {
            match frame::decode_response(frame)? {
                Response::Reply { sequence, result } => {
                    let slot = self.calls.lock().remove(sequence);
                    // It can be unknown: a call that was sent twice is answered twice.
                    if let Some(slot) = slot {
                        slot.complete(result.map(Into::into), &self.tasks);
                    }
                }
                Response::Refused(error) => return Err(error),
                Response::Routes(routes) => self.hear(routes)?,
                Response::Moved { sequence, routes } => self.moved(reader, sequence, routes),
                Response::Welcome(_) => {
                    return Err(Error::Protocol {
                        detail: "a second welcome".to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    /// A request was not executed where it was sent.
    fn moved(&self, reader: &Reader, sequence: Sequence, routes: u64) {
        if let Some((_, connection)) = reader.socket {
            let mut calls = self.calls.lock();
            calls.moved(sequence, connection, routes, Instant::now());
        }
        // It is sent again by the keeper, who may be late: whoever reads here must not wait.
        self.keeper.look();
    }

    /// Fails all calls in flight.
    pub(crate) fn fail_all(&self, error: &Error) {
        let slots = self.calls.lock().take_all();
        self.fail(slots, error);
    }

    pub(crate) fn fail(&self, slots: Vec<Arc<Slot>>, error: &Error) {
        for slot in slots {
            slot.complete(Err(error.clone()), &self.tasks);
        }
    }

    /// Whether tasks wait, for whom nobody reads but the keeper.
    pub(crate) fn has_tasks(&self) -> bool {
        self.tasks.load(Ordering::Acquire) > 0
    }

    /// Lets another thread read.
    pub(crate) fn pass_on(&self, link: &Arc<Link>, reader: MutexGuard<'_, Reader>) {
        drop(reader);
        let appointed = match &self.net {
            Net::Alone(_) => link.appoint(|slot| slot.lead(None)),
            Net::Cluster(_) => link.appoint(|slot| slot.lead(Some(link))),
        };
        if !appointed && self.has_tasks() && matches!(self.net, Net::Cluster(_)) {
            self.keeper.look();
        }
    }
}
