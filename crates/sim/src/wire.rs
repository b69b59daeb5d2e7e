//! What travels in the simulated network.

use std::sync::Arc;

use bytes::Bytes;
use crucial_node::DialId;
use crucial_node::replication::{Command, Grant, Incarnation, NodeId, View};
use crucial_proto::frame::{self, FRAME_BYTES_MAX, LENGTH_BYTES, peer};

/// One end of a connection of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// To a client, on the stream of this number.
    Client(u64),
    /// To another node, which has dialed.
    Incoming(u64),
    /// To another node that was dialed.
    Outgoing(u64),
}

/// An attempt of a node to reach another one.
#[derive(Clone, Copy, Debug)]
pub struct Dial {
    /// The link that is made.
    pub link: u64,
    /// The name of the attempt at the node that dials.
    pub id: DialId,
}

/// What comes to a node.
#[derive(Clone, Debug)]
pub enum Packet {
    /// From a client, on the stream of this number.
    Frame(u64, Bytes),
    /// From another node, on the link of this number.
    Messages(u64, Bytes),
    /// Another node dials.
    PeerHello(Dial, peer::Hello),
    /// Whether a node that was dialed takes the link.
    PeerReply(Dial, peer::Hello, bool),
    /// The connection is broken.
    Closed(End),
    /// From the control group, with the view.
    Grant(Grant, Arc<View>),
    /// From the control group.
    View(Arc<View>),
    /// From the control group: this incarnation of the node has ended.
    Evicted,
    /// From a voter of the control group, which does not lead any more, with the term in which it did.
    NotLeader(u64),
}

impl Packet {
    /// Whether it is for one incarnation of a node, and not for all of its process.
    pub fn is_from_control(&self) -> bool {
        use Packet::{Evicted, Grant, NotLeader, View};
        matches!(self, Grant(..) | View(_) | Evicted | NotLeader(_))
    }
}

/// What comes to the control group.
#[derive(Clone, Debug)]
pub enum ToControl {
    Heartbeat {
        node: NodeId,
        incarnation: Incarnation,
        sent_ms: u64,
        is_leaving: bool,
    },
    Command(Command),
}

/// The frames in a buffer, without their lengths.
pub fn frames_of(bytes: Vec<u8>) -> impl Iterator<Item = Bytes> {
    let mut rest = Bytes::from(bytes);
    std::iter::from_fn(move || {
        let length = frame::peek_length(&rest, FRAME_BYTES_MAX).expect("a whole frame")?;
        let mut frame = rest.split_to(LENGTH_BYTES + length);
        Some(frame.split_off(LENGTH_BYTES))
    })
}
