//! Which servers are connected.

use super::member::Member;

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
}

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
        }
    }

    pub fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }
}
