//! A job: user code to be executed for one event of one object, without any lock and without a clock.

use std::sync::Arc;

use bytes::Bytes;
use crucial_object::{Result, SessionId, TypeInfo};
use crucial_proto::frame::Attempt;

use crate::cell::{Change, Disposition};
use crate::connection::Connection;
use crate::objects::{Event, ObjectEntry, ObjectState};
use crate::partitions::Term;
use crate::peer_message::PeerMessage;
use crate::replication::{Image, Origin, Replica, ViewVersion};
use crate::results::Results;

/// An object that is checked out, and the event whose turn it is. It is large, so it goes from hand to hand in a box.
#[derive(Debug)]
pub(crate) struct Turn {
    pub entry: Arc<ObjectEntry>,
    pub state: Checkout,
    pub event: Event,
    /// The code to execute, once the event was admitted.
    pub plan: Option<Plan>,
    /// Whether other servers may need the object's image.
    pub has_followers: bool,
    pub results: Results,
}

impl Turn {
    pub fn new(entry: Arc<ObjectEntry>, state: ObjectState, event: Event) -> Box<Turn> {
        Box::new(Turn {
            entry,
            state: Checkout(state),
            event,
            plan: None,
            has_followers: false,
            results: Results::default(),
        })
    }
}

/// The state of a checked-out object.
pub(crate) struct Checkout(pub ObjectState);

/// Something to execute. A job belongs to the node that made it, and its object is checked out until it is completed.
#[derive(Debug)]
pub struct Job(pub(crate) Todo);

impl Job {
    /// The session that was silent for too long, and loses what it holds in the job's object. (Its client may live, and need
    /// not hear of it.)
    pub fn lapses(&self) -> Option<SessionId> {
        match &self.0 {
            Todo::Object(turn) => match turn.plan {
                Some(Plan::Change(_, Change::Lapse(session))) => Some(session),
                _ => None,
            },
            Todo::Message(..) => None,
        }
    }
}

#[derive(Debug)]
pub(crate) enum Todo {
    /// Handle an event of an object, which was admitted.
    Object(Box<Turn>),
    /// Decode a message of another server.
    Message(Arc<Connection>, Bytes),
}

/// The code to execute, decided under the partition's lock.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Call a method that may change the object, as this attempt of a cloud thread ([`Call::attempt`](crate::cell::Call)).
    Call(Term, Option<Box<Attempt>>),
    /// Call a method that leaves nothing behind, or repeat a result.
    Look(Term),
    /// Do a change that is not a call.
    Change(Term, Change),
    /// Create the object.
    Create(Term, &'static TypeInfo),
    /// Do what the primary did, at this rank.
    Follow(u8),
    /// Decode an image of this origin and type.
    Restore(Arc<Origin>, Option<&'static TypeInfo>),
    /// Encode the object for a node of this rank.
    Encode(u8),
    /// Compute the checksum of the object's image.
    Checksum,
    /// Check whether the object can move to other code.
    CheckMove(&'static TypeInfo),
    /// Move the object to other code, as the primary of this term.
    Move(&'static TypeInfo, ViewVersion),
    /// Encode the object's state.
    Save,
}

/// A job that was executed.
pub struct Done(pub(crate) Executed);

pub(crate) enum Executed {
    /// An event of an object. The image is there if other servers might have come to another state.
    Object(Box<Turn>, Outcome, Option<Box<Image>>),
    /// A message, if it could be decoded.
    Message(Arc<Connection>, Result<PeerMessage>),
}

/// A new object.
pub(crate) struct Created {
    pub replica: Replica,
    /// The object's image, if there are followers.
    pub image: Option<Image>,
}

/// The outcome of a job, besides results of calls.
pub(crate) enum Outcome {
    /// Of a call; `None`: the object is not here.
    Called(Option<Disposition>),
    /// Of a change that is not a call.
    Changed,
    /// The new object.
    Created(Result<Box<Created>>),
    /// Whether the object had the results that the primary's had.
    Followed(bool),
    /// The replica that an image was made of.
    Restored(Result<Box<Replica>>),
    /// The object as bytes.
    Encoded(Box<Image>),
    /// The checksum of the object's image; `None`: the object is elsewhere.
    Checksum(Option<u64>),
    /// Whether the object can move, or has moved.
    Moved(Result<()>),
    /// The object's encoded state.
    Saved(Result<Vec<u8>>),
}

impl std::fmt::Debug for Checkout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &self.0 {
            None => "nothing",
            Some(replica) if replica.is_full() => "the object",
            Some(_) => "a stub",
        })
    }
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Called(disposition) => write!(f, "called: {disposition:?}"),
            Outcome::Changed => f.write_str("changed"),
            Outcome::Created(result) => write!(f, "created: {}", result.is_ok()),
            Outcome::Followed(fits) => write!(f, "followed: {fits}"),
            Outcome::Restored(result) => write!(f, "restored: {}", result.is_ok()),
            Outcome::Encoded(_) => f.write_str("encoded"),
            Outcome::Checksum(checksum) => write!(f, "checksum: {checksum:?}"),
            Outcome::Moved(result) => write!(f, "moved: {result:?}"),
            Outcome::Saved(result) => write!(f, "saved: {}", result.is_ok()),
        }
    }
}
