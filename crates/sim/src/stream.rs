//! A connection of a client.

use std::collections::VecDeque;

use bytes::Bytes;
use crucial_node::replication::{Incarnation, NodeId};
use crucial_object::SessionId;

/// A connection.
pub struct Stream {
    pub client: SessionId,
    pub node: NodeId,
    /// The process at its other end.
    pub began: Incarnation,
    /// To the node.
    pub up: Pipe,
    /// To the client.
    pub down: Pipe,
}

/// One direction of a stream.
#[derive(Default)]
pub struct Pipe {
    pub frames: VecDeque<Bytes>,
    /// The sender sends no more than this.
    pub is_ending: bool,
    /// The receiver has seen the end.
    pub has_ended: bool,
    /// There is an event at which something arrives.
    pub is_moving: bool,
}

impl Pipe {
    /// Whether the receiver sees the end now.
    pub fn ends(&mut self) -> bool {
        let ends = self.is_ending && self.frames.is_empty() && !self.has_ended;
        self.has_ended |= ends;
        ends
    }
}
