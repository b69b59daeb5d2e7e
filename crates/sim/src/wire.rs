//! What travels in the simulated network.

use std::sync::Arc;

use crucial_cluster::{
    Command, Grant, Incarnation, Message, NodeId, PartitionId, View, ViewVersion,
};
use crucial_object::{Error, MethodId, ObjectId, Result, Sequence, SessionId};

/// A packet.
#[derive(Clone, Debug)]
pub enum Packet {
    /// From a node to another, about a partition.
    Peer {
        from: NodeId,
        partition: PartitionId,
        message: Message,
    },
    /// From a client.
    Request(Request),
    /// From a client: a sign of life. It is told of a newer view.
    Ping {
        client: SessionId,
        view: ViewVersion,
    },
    /// To the control group.
    Heartbeat {
        node: NodeId,
        incarnation: Incarnation,
        sent_ms: u64,
        leaving: bool,
    },
    /// To the control group.
    Command(Command),
    /// From the control group.
    Grant(Grant, Arc<View>),
    /// From the control group.
    View(Arc<View>),
    /// From the control group: this life of the node is over.
    Over,
}

/// What a client asks.
#[derive(Clone, Debug)]
pub struct Request {
    pub client: SessionId,
    pub sequence: Sequence,
    pub acked: Sequence,
    pub view: ViewVersion,
    pub object: ObjectId,
    pub ask: Ask,
}

#[derive(Clone, Debug)]
pub enum Ask {
    Call {
        method: MethodId,
        args: Vec<u8>,
    },
    Open {
        type_name: &'static str,
        replicas: u8,
        state: Vec<u8>,
    },
    Delete,
    /// Withdraws the call of this number, if it waits.
    Cancel,
}

/// What a client is told.
#[derive(Clone, Debug)]
pub enum Reply {
    Result(Sequence, Body),
    /// Not here, or not with this view.
    Moved(Sequence),
    View(Arc<View>),
}

#[derive(Clone, Debug)]
pub enum Body {
    Did(bool),
    Bytes(Result<Vec<u8>, Error>),
}
