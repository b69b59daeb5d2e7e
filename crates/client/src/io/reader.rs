//! Replies: one thread at a time reads them for all whose calls are at the same server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crucial_object::{Error, Result};
use crucial_proto::frame::{self, Response};
use parking_lot::MutexGuard;

use super::link::{Link, Reader};
use super::net::{Net, Pending};
use super::send::Sent;
use super::waiter::Woken;

/// Where there are several servers, whoever reads looks this often whether its call is elsewhere now.
const LOOK_AROUND: Duration = Duration::from_millis(50);

/// The same with a single server. A call of which no answer is read can only be failed by another thread there.
const LOOK_AROUND_SINGLE: Duration = Duration::from_secs(1);

/// Why a connection is of no use any more.
pub(crate) struct Failure {
    pub text: String,
    /// The error with which the server has refused the connection: its calls would fail again on another.
    pub refusal: Option<Error>,
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Failure {
            text,
            refusal: None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure {
            text: error.to_string(),
            refusal: Some(error),
        }
    }
}

impl Net {
    /// Waits for the result of a request.
    pub fn wait(&self, sent: Sent) -> Result<Vec<u8>> {
        self.wait_until(sent, None)
    }

    /// The same, of a call that was sent some time ago.
    pub fn wait_for(&self, call: &Pending) -> Result<Vec<u8>> {
        self.wait_at(None, call, None)
    }

    /// Waits for the result of a request, at most until then.
    pub fn wait_until(&self, sent: Sent, until: Option<Instant>) -> Result<Vec<u8>> {
        if let Some(link) = &sent.link {
            let waiter = &sent.call.waiter;
            let is_late = || until.is_some_and(|until| until <= Instant::now());
            self.wait_for_room(link, || waiter.is_not_at(link.member) || is_late());
        }
        self.wait_at(sent.link, &sent.call, until)
    }

    /// Waits for the result of a call, wherever it is. `link` is where it was sent, if that has not been looked up yet.
    fn wait_at(
        &self,
        mut link: Option<Arc<Link>>,
        call: &Pending,
        until: Option<Instant>,
    ) -> Result<Vec<u8>> {
        loop {
            let link = match link.take() {
                Some(link) => Some(link),
                None => call.waiter.look().and_then(|member| self.link(member)),
            };
            let woken = match link {
                None => call.waiter.follow(until),
                Some(link) => self.wait_near(&link, call, until),
            };
            if let Some(result) = call.waiter.take_done() {
                return result;
            }
            if woken == Woken::Late {
                return Err(Error::TimedOut {
                    after: Duration::ZERO,
                });
            }
        }
    }

    /// Waits for a call while it is at this server.
    fn wait_near(&self, link: &Arc<Link>, call: &Pending, until: Option<Instant>) -> Woken {
        let is_elsewhere = || call.waiter.is_not_at(link.member);
        if let Some(mut reader) = link.reader.try_lock()
            && reader.is_up()
        {
            self.read_until(link, &mut reader, until, is_elsewhere);
            self.pass_on(link, reader);
            return match until {
                Some(until) if until <= Instant::now() => Woken::Late,
                _ => Woken::Moved,
            };
        }
        link.follow(call);
        // The reader may have left before it could see this follower.
        if let Some(reader) = link.reader.try_lock()
            && reader.is_up()
        {
            self.pass_on(link, reader);
            return Woken::Moved;
        }
        let woken = call.waiter.follow(until);
        let leads = woken == Woken::Lead || call.waiter.take_lead();
        if leads
            && (woken == Woken::Late || is_elsewhere())
            && let Some(reader) = link.reader.try_lock()
        {
            // The thread was to read, and will not.
            self.pass_on(link, reader);
        }
        woken
    }

    /// Reads for all until `done`, or until that time, or while there is a connection.
    pub fn read_until(
        &self,
        link: &Arc<Link>,
        reader: &mut Reader,
        until: Option<Instant>,
        done: impl Fn() -> bool,
    ) {
        while reader.is_up() && !done() {
            if self.take_replies(link, reader) {
                continue;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return;
            }
            self.wait_readable(link, reader, left);
        }
    }

    /// Reads once, if there is something within a moment.
    pub fn read_once(&self, link: &Arc<Link>, reader: &mut Reader) {
        if !self.take_replies(link, reader)
            && let Some(socket) = reader.socket()
        {
            link.wait(socket, Some(Duration::from_millis(10)));
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
        let look_around = match self.has_several() {
            true => LOOK_AROUND,
            false => LOOK_AROUND_SINGLE,
        };
        if let Some(socket) = reader.socket() {
            let limit = limit.map_or(look_around, |limit| limit.min(look_around));
            link.wait(socket, Some(limit));
        }
    }

    /// Reads what is there and hands it out; whether there was something.
    pub fn take_replies(&self, link: &Arc<Link>, reader: &mut Reader) -> bool {
        let failure: Failure = match reader.read() {
            Ok(None) => return false,
            Ok(Some(0)) => "the server closed the connection".to_owned().into(),
            Ok(Some(_)) => {
                link.set_heard();
                match self.hand_out(link, reader) {
                    Ok(()) => return true,
                    // The server would refuse again.
                    Err(error) => error.into(),
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return true,
            Err(error) => error.to_string().into(),
        };
        self.on_lost(link, reader, failure);
        true
    }

    /// Hands out the frames that are there.
    pub fn hand_out(&self, link: &Link, reader: &mut Reader) -> Result<()> {
        while let Some(frame) = frame::split(&mut reader.buffer, u32::MAX as usize)? {
            match frame::decode_response(frame)? {
                Response::Reply { sequence, result } => {
                    let connection = reader.connection();
                    let call = self.session().on_reply(sequence, connection);
                    match call {
                        Some(call) => call.waiter.complete(result.map(Into::into), &self.tasks),
                        None if result.is_ok() => {
                            self.session().on_sign_answered(sequence, connection);
                        }
                        None => {}
                    }
                }
                Response::Refused(error) => return Err(error),
                Response::Routes(routes) => self.on_routes(routes, &link.address)?,
                Response::Moved { sequence, routes } => {
                    let (connection, now_ms) = (reader.connection(), self.now_ms());
                    self.session()
                        .on_moved(sequence, connection, routes, now_ms);
                    // The call is sent again by the heartbeat thread, after a pause: whoever reads here must not wait.
                    self.waker.wake_urgently();
                }
                Response::Welcome(_) => {
                    return Err(Error::Protocol {
                        detail: "a second welcome".to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    /// The connection of a link broke: its calls wait for another.
    pub fn on_lost(&self, link: &Arc<Link>, reader: &mut Reader, failure: Failure) {
        let Some(connection) = reader.stop() else {
            return;
        };
        tracing::debug!(address = link.address, failure.text, "connection lost");
        if failure.refusal == Some(Error::Fenced) {
            return self.end_with(&Error::Fenced);
        }
        let refusal = failure
            .refusal
            .filter(|error| !matches!(error, Error::Unavailable { .. }));
        let now_ms = self.now_ms();
        let disconnected = {
            // No other thread connects this link while its reader is held.
            let mut out = link.out();
            link.disconnected(&mut out);
            self.session()
                .on_disconnected(link.member, connection, refusal, now_ms)
        };
        if let Some(failed) = disconnected.failed {
            self.fail(failed);
        }
        if disconnected.reconnect {
            self.connect(link);
        }
    }

    /// Lets another thread read.
    pub fn pass_on(&self, link: &Link, reader: MutexGuard<'_, Reader>) {
        drop(reader);
        if !link.appoint() && self.has_tasks() {
            self.waker.wake();
        }
    }
}
