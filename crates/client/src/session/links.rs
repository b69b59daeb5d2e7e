//! Which servers are connected.

use std::collections::VecDeque;

use crucial_object::Sequence;

use super::member::Member;

/// How many signs of life are given in each lease.
pub(super) const SIGNS_PER_LEASE: u64 = 3;

/// The session's knowledge of the connection to one server.
#[derive(Clone, Debug)]
pub(super) struct LinkState {
    pub member: Member,
    pub phase: Phase,
    /// The number of the present connection, among all of the client; 0: no connection.
    pub connection: u64,
    /// The server ends the session after a silence this long.
    pub lease_ms: u64,
    /// Why the last attempt to connect failed.
    pub failure: Option<String>,
    /// When the server was last heard, on the client's clock.
    pub heard_ms: u64,
    /// When the last sign of life was given.
    pub signed_ms: u64,
    /// When the next sign of life is due.
    pub sign_due_ms: u64,
    /// Signs of life on the present connection that are not answered, with their times. The oldest is the first.
    signs: VecDeque<(Sequence, u64)>,
    /// When the present connection was made.
    pub connected_ms: u64,
    /// The time of the last sign of life that the server has answered on the present connection. A server answers while
    /// it may serve; so the session lived there after this.
    pub vouched_ms: u64,
}

/// Unanswered signs of life that are remembered. The answer to one of them is enough.
const SIGNS_MAX: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody needs a connection so far.
    Idle,
    /// A thread sees to a connection.
    Connecting,
    Up,
}

impl LinkState {
    pub fn new(member: Member) -> LinkState {
        LinkState {
            member,
            phase: Phase::Idle,
            connection: 0,
            lease_ms: 0,
            failure: None,
            heard_ms: 0,
            signed_ms: 0,
            sign_due_ms: 0,
            signs: VecDeque::new(),
            connected_ms: 0,
            vouched_ms: 0,
        }
    }

    /// A new connection was made.
    pub fn connect(&mut self, connection: u64, now_ms: u64) {
        self.phase = Phase::Up;
        self.connection = connection;
        self.failure = None;
        self.heard_ms = now_ms;
        self.signed_ms = now_ms;
        self.connected_ms = now_ms;
        self.signs.clear();
        self.vouched_ms = 0;
    }

    /// A sign of life is given.
    pub fn sign(&mut self, sequence: Sequence, now_ms: u64) {
        if self.signs.len() >= SIGNS_MAX {
            self.signs.pop_front();
        }
        self.signs.push_back((sequence, now_ms));
        self.signed_ms = now_ms;
        self.sign_due_ms = now_ms + self.lease_ms / SIGNS_PER_LEASE;
    }

    /// The server has answered a request on the present connection.
    pub fn on_answered(&mut self, sequence: Sequence) {
        let place = self.signs.iter().position(|(sign, _)| *sign == sequence);
        for (_, signed_ms) in self.signs.drain(..place.map_or(0, |place| place + 1)) {
            self.vouched_ms = signed_ms;
        }
    }

    pub fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }
}
