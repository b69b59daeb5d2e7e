//! Events of an object.

use std::sync::Arc;
use std::time::Duration;

use crucial_object::{Error, Sequence, SessionId, TypeInfo};
use crucial_proto::frame::{CallRequest, OpenRequest};

use crate::cell::CallId;
use crate::connection::Connection;
use crate::ids::Millis;
use crate::replication::{Entry, Epoch, Holding, Incarnation, NodeId, StreamPlace};
use crate::session::Session;

/// Something that happens to an object. Events of one object take effect one after the other.
#[derive(Debug)]
pub(crate) enum Event {
    /// A client's request.
    Request(RequestContext, ObjectRequest),
    /// A call may not wait any longer.
    EndCall(CallId, CallEnd),
    /// A session ended that may wait here or hold something.
    EndSession(SessionId, SessionEnd),
    /// The object goes with its run, or with all of its namespace. The round counts what was removed.
    Remove(Option<RoundId>),
    /// The primary, another server, did something to the object.
    Apply(StreamPlace, Box<Entry>),
    /// This server does something with its copy of the object. The round hears of the outcome.
    Task(Task, Option<RoundId>),
}

/// Why a call may not wait any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallEnd {
    /// The call has waited for this long, which is as long as it may.
    TimedOut(Millis),
    /// The attempt that made it is fenced.
    Fenced,
}

impl CallEnd {
    /// The result of the call.
    pub fn error(self) -> Error {
        match self {
            CallEnd::TimedOut(after) => Error::TimedOut {
                after: Duration::from_millis(after),
            },
            CallEnd::Fenced => Error::Fenced,
        }
    }
}

impl Event {
    /// Takes the event out. What is left is nothing that anybody looks at.
    pub fn take(&mut self) -> Event {
        std::mem::replace(self, Event::Remove(None))
    }

    /// The request that caused it.
    pub fn context(&self) -> Option<&RequestContext> {
        match self {
            Event::Request(context, _) => Some(context),
            _ => None,
        }
    }

    /// The round that waits for its outcome.
    pub fn round(&self) -> Option<RoundId> {
        match self {
            Event::Remove(round) | Event::Task(_, round) => *round,
            _ => None,
        }
    }
}

/// A client's request to an object.
#[derive(Debug)]
pub(crate) enum ObjectRequest {
    /// Calls a method.
    Call(CallRequest),
    /// Accepts the state as it is.
    ClearPoison,
    /// Withdraws a waiting call, which has the sequence of the request.
    Withdraw,
    /// Finds or creates it.
    Open(Box<OpenRequest>),
    /// Removes it.
    Delete,
}

/// The sender of a request, and where the reply goes.
#[derive(Debug)]
pub(crate) struct RequestContext {
    pub session: Arc<Session>,
    pub connection: Arc<Connection>,
    pub sequence: Sequence,
    pub acked: Sequence,
    /// The version of the routes by which it was sent.
    pub routes: u64,
    /// Whether the request has waited. What is newer waits for it.
    pub retried: bool,
}

impl RequestContext {
    pub fn call(&self) -> CallId {
        CallId {
            session: self.session.id,
            sequence: self.sequence,
        }
    }

    /// Whether it may still be executed. A request must not be that was answered before, as its copy was on its way all the
    /// while; nor one of a session that has ended or passed to another connection.
    pub fn is_current(&self) -> bool {
        self.session.accepts(self.connection.id) && self.session.needs(self.sequence)
    }
}

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    /// The client said goodbye, or a newer attempt has taken its place: nobody repeats its calls.
    Known,
    /// The client was silent. It may live, and turn up at another server with calls whose results it has not seen.
    Silent,
}

/// Names a round of tasks, of which each object of a group has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RoundId(pub u64);

/// A task of this server for its copy of an object.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    /// Drops the copy.
    Forget,
    /// Keeps a stub of an object that is below this rank.
    Shed(u8),
    /// Marks an object as lost that is below this rank. Behind it calls may be executed, in this incarnation of the server.
    Lose(u8, Incarnation),
    /// Says which version it has.
    Digest,
    /// Becomes the primary's copy. Behind it calls may be executed, in this incarnation of the server.
    TakeOver(Incarnation),
    /// Brings a backup to this copy. The backup holds this; `None`: nothing.
    Reconcile(NodeId, Epoch, Option<Holding>),
    /// Sends it to the node that joins, in this join of this incarnation of the server.
    Copy(Incarnation, u32),
    /// Sends it whole to a node that has another one.
    Repair(NodeId),
    /// Describes it, if it has this key.
    Describe(Option<Arc<str>>),
    /// Says what its state and records amount to.
    Checksum,
    /// Says whether it can move from the old to the new code of its type.
    CheckMove(&'static TypeInfo, &'static TypeInfo),
    /// Moves to this code of its type.
    Move(&'static TypeInfo),
    /// Gives its encoded state.
    Save,
}
