//! A call in flight.

use std::sync::Arc;

use crucial_object::{Error, ObjectId, Sequence};

use super::member::Member;

/// The receiver of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The server that answers for this object, whichever that is.
    Object(ObjectId),
    /// One server.
    Member(Member),
}

/// A request, from when it is numbered until its caller has the result. (Most are calls.)
pub struct PendingCall<W> {
    pub sequence: Sequence,
    pub target: Target,
    /// Kept until the answer comes, to be sent again on another connection.
    pub frame: Vec<u8>,
    pub waiter: W,
}

impl<W> PendingCall<W> {
    pub fn object(&self) -> Option<ObjectId> {
        match self.target {
            Target::Object(object) => Some(object),
            Target::Member(_) => None,
        }
    }
}

/// Calls that are in flight no more, and the error of them all.
pub struct Failed<W> {
    pub calls: Vec<Arc<PendingCall<W>>>,
    pub error: Error,
}
