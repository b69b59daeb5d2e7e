//! What happens: to nodes, to the control group, to clients, and on the way between them.

use crucial_node::Work;
use crucial_node::replication::{Incarnation, NodeId};
use crucial_object::SessionId;

use crate::caller::Redial;
use crate::control::LeaderEvent;
use crate::wire::{Packet, ToControl};

#[derive(Clone, Debug)]
pub enum Event {
    ToNode(NodeId, Incarnation, Packet),
    /// To the leader of this term.
    ToControl(NodeId, u64, ToControl),
    /// At the leader of this term.
    Leader(u64, LeaderEvent),
    /// A voter of the control group is elected.
    Elect,
    /// Something arrives at the end of a stream.
    Flow(u64, Direction),
    /// Something that a process does by itself. It is named by its first incarnation.
    Process(NodeId, Incarnation, ProcessEvent),
    Client(SessionId, ClientEvent),
    ControlTick,
    Fault,
    /// Owners look after their threads.
    Threads,
    /// The fault of this number ends.
    Heal(u64),
    Start(NodeId),
}

#[derive(Clone, Debug)]
pub enum ProcessEvent {
    Heartbeat,
    /// The node is to be called at this time of its clock.
    Wake(u64),
    /// A job is executed that took its time to begin.
    Execute(u64),
    /// A job is completed that took its time.
    Complete(u64),
    /// Work of this number ends that took its time.
    Work(u64, Work),
    /// The next incarnation begins in the same process.
    Incarnate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Up,
    Down,
}

/// Something that happens to a client.
#[derive(Clone, Copy, Debug)]
pub enum ClientEvent {
    /// The client may begin its next request.
    Tick,
    /// The client looks around, as it asked for this time.
    Look(u64),
    /// The client tries to connect again.
    Redial(Redial),
    /// A stream is connected, or not.
    Dialed(u64, bool),
    /// A welcome should have come on this stream.
    WelcomeDue(u64),
}
