//! Connections begin and end.

use std::sync::Arc;

use crucial_object::{Error, Sequence};
use crucial_proto::frame::{self, Operation, REPEAT_LEASES, Welcome};

use super::calls::{Calls, Entry, is_for};
use super::introduction::Introduction;
use super::links::{Phase, SIGNS_PER_LEASE};
use super::member::Member;
use super::pending::{Failed, PendingCall};
use super::state::Session;

/// A connection ended.
pub struct Disconnected<W> {
    pub failed: Option<Failed<W>>,
    /// The server is to be connected again.
    pub reconnect: bool,
}

impl<W> Session<W> {
    /// A connection to the server is needed; whether somebody has to see to it now.
    pub fn begin_connecting(&mut self, member: Member) -> bool {
        if self.has_ended() {
            return false;
        }
        let link = self.link_mut(member);
        let Some(link) = link.filter(|link| link.phase == Phase::Idle) else {
            return false;
        };
        link.phase = Phase::Connecting;
        true
    }

    /// An attempt to connect failed; there will be others.
    pub fn on_connect_failed(&mut self, member: Member, reason: String) {
        if let Some(link) = self.link_mut(member) {
            link.failure = Some(reason);
        }
    }

    /// Nobody could be found to see to the connection.
    pub fn give_up_connecting(&mut self, member: Member) {
        if let Some(link) = self.link_mut(member)
            && link.phase == Phase::Connecting
        {
            link.phase = Phase::Idle;
        }
    }

    /// The introduction to a server that is to be connected; `None` if no connection is needed any more.
    pub fn introduce(&self, member: Member) -> Option<Introduction> {
        if self.has_ended() {
            return None;
        }
        let link = self.link(member)?;
        if link.phase != Phase::Connecting {
            return None;
        }
        Some(self.introduction())
    }

    /// A server has said welcome on a new connection. Appends to `out` what it has to be told, and the requests that
    /// wait for it. Gives the connection's number, and the calls that fail because the server has ended the session;
    /// `None` if the connection is not needed.
    pub fn on_connected(
        &mut self,
        member: Member,
        introduction: &Introduction,
        welcome: &Welcome,
        now_ms: u64,
        out: &mut Vec<u8>,
    ) -> Option<(u64, Failed<W>)> {
        let connection = self.connections + 1;
        let has_ended = self.has_ended();
        let link = self.link_mut(member)?;
        if link.is_up() || has_ended {
            return None;
        }
        link.connect(connection, now_ms);
        link.lease_ms = welcome.lease_ms;
        link.sign_due_ms = now_ms + welcome.lease_ms / SIGNS_PER_LEASE;
        self.connections = connection;
        self.frame_bytes_max = usize::try_from(welcome.frame_bytes_max).unwrap_or(usize::MAX);
        let repeat_ms = welcome.lease_ms.saturating_mul(REPEAT_LEASES);
        self.repeat_ms = self.repeat_ms.min(repeat_ms);
        self.catch_up(introduction, out);
        // A server that is new to the session takes it up; one that says no has ended it. And one that has forgotten it
        // may have forgotten the results.
        let oldest_ms = self.oldest_ms(now_ms);
        let is_lost = |entry: &Entry<W>| !welcome.resumed || !entry.may_be_sent(oldest_ms);
        let expired = self
            .calls
            .take(|entry| entry.tried && is_for(entry, member) && is_lost(entry));
        let table = &self.table;
        let place = table.place_of(member);
        self.holds
            .end(|object| table.place_of_object(object) == place);
        self.forget_holds();
        self.send_all_to(member, now_ms, out);
        let failed = Failed {
            calls: expired,
            error: Error::SessionExpired,
        };
        Some((connection, failed))
    }

    /// Tells a server what has changed since the hello, and the fences that the hello has announced.
    fn catch_up(&mut self, introduction: &Introduction, out: &mut Vec<u8>) {
        let version = self.table.version();
        if introduction.hello.routes != version {
            // The frame has a constant size, so encoding it cannot fail.
            let _ = frame::write_known_routes(version, out);
        }
        let begin = self
            .attempt
            .filter(|_| self.attempt != introduction.hello.attempt);
        let begin = begin.map(Operation::Begin);
        let fences = introduction.fences.iter().copied().map(Operation::Fence);
        for operation in fences.chain(begin) {
            append_unawaited(&mut self.calls, &operation, out);
        }
    }

    fn send_all_to(&mut self, member: Member, now_ms: u64, out: &mut Vec<u8>) {
        let Some(sending) = self.sending(member, now_ms) else {
            return;
        };
        let repeats = |entry: &Entry<W>| entry.tried && is_for(entry, member);
        let repeats = self.calls.entries().any(repeats);
        if let (true, Some(link)) = (repeats, self.link_mut(member)) {
            // So that the server vouches for them soon, should the connection not last.
            link.sign_due_ms = now_ms;
        }
        self.calls.send(sending, out, |entry| is_for(entry, member));
    }

    /// A connection ended: its calls wait for another. With a `refusal` they fail, as they would on another connection.
    pub fn on_disconnected(
        &mut self,
        member: Member,
        connection: u64,
        refusal: Option<Error>,
        now_ms: u64,
    ) -> Disconnected<W> {
        self.note_vouched();
        if let Some(link) = self.link_mut(member)
            && link.connection == connection
        {
            link.phase = Phase::Idle;
            link.connection = 0;
            self.schedule.connected_ms = now_ms;
        }
        let failed = refusal.map(|error| Failed {
            calls: self.calls.take(|entry| entry.sent == connection),
            error,
        });
        self.forget_holds();
        for entry in self.calls.entries_mut() {
            if entry.sent == connection {
                entry.mark_unroutable(now_ms);
            }
        }
        match self.ended.clone() {
            None => Disconnected {
                failed,
                reconnect: true,
            },
            Some(ended) => Disconnected {
                failed: Some(self.fail_at(member, ended)),
                reconnect: false,
            },
        }
    }

    /// Fails the calls that wait for this server.
    pub fn fail_at(&mut self, member: Member, error: Error) -> Failed<W> {
        let calls: Vec<Arc<PendingCall<W>>> = self.calls.take(|entry| is_for(entry, member));
        self.forget_holds();
        Failed { calls, error }
    }
}

/// Appends a request whose answer nobody waits for, and gives its number. (If an attempt that begins is fenced, the
/// connection is refused.)
pub(super) fn append_unawaited<W>(
    calls: &mut Calls<W>,
    operation: &Operation,
    out: &mut Vec<u8>,
) -> Option<Sequence> {
    let mut frame = Vec::new();
    frame::write_operation(Sequence(0), Sequence(0), operation, &mut frame).ok()?;
    let sequence = calls.number(&mut frame, true);
    out.extend_from_slice(&frame);
    Some(sequence)
}
