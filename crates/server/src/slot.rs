//! An object's place on its server: its cell, and the calls that queue for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use crucial_cluster::{Body, Entry, NodeId, Replica};
use crucial_core::frame::{CallRequest, OpenRequest};
use crucial_core::{CallId, Cell, Turn};
use crucial_object::{Error, ObjectId, Result, Sequence, SessionId, TypeInfo};
use parking_lot::Mutex;

use crate::connection::Connection;
use crate::service::{Effects, Service};
use crate::session::Session;

/// Something that happens to an object.
pub(crate) enum Event {
    /// A call arrived on a connection.
    Call(Arrival, CallRequest),
    /// A request to clear its poison arrived.
    ClearPoison(Arrival),
    /// The client withdraws a waiting call, of the same sequence.
    Withdraw(Arrival),
    /// A waiting call, if it still waits, has waited for as long as it may.
    TimeOut(CallId, Duration),
    /// A session with waiting calls in it ended.
    EndSession(SessionId, Ending),
    /// Somebody looks at the object, between two calls.
    Visit(Visit),
    /// The object goes.
    End(Error),
    /// In a cluster: a request to find or create it arrived.
    Open(Arrival, Box<OpenRequest>),
    /// In a cluster: a request to remove it arrived.
    Delete(Arrival),
    /// In a cluster: it goes with its run, or with all of its namespace; whoever asked is told if it did.
    Remove(Option<Sender<()>>),
    /// In a cluster: its primary, another server, did something to it.
    Follow(NodeId, Box<Entry>),
    /// In a cluster: somebody looks at what there is of it here.
    Look(Look),
}

/// Looks at what there is of an object, in line with what happens to it.
pub(crate) type Look = Box<dyn FnOnce(&Service, &Arc<Slot>, &mut Held, &mut Effects<'_>) + Send>;

impl Event {
    /// The request that it is.
    pub fn arrival(&self) -> Option<&Arrival> {
        match self {
            Event::Call(arrival, _)
            | Event::ClearPoison(arrival)
            | Event::Withdraw(arrival)
            | Event::Open(arrival, _)
            | Event::Delete(arrival) => Some(arrival),
            _ => None,
        }
    }

    /// The request that it is, to be changed.
    pub fn arrival_mut(&mut self) -> Option<&mut Arrival> {
        match self {
            Event::Call(arrival, _)
            | Event::ClearPoison(arrival)
            | Event::Withdraw(arrival)
            | Event::Open(arrival, _)
            | Event::Delete(arrival) => Some(arrival),
            _ => None,
        }
    }
}

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It says so, or another attempt has its place: nobody repeats its calls.
    Known,
    /// It was silent. It may live, and turn up at another server with what it has not heard the answers of.
    Silent,
}

/// What to do with an object.
pub(crate) struct Visit {
    pub act: Act,
    /// Whether it may change the object.
    pub changes: bool,
    /// Where the outcome goes. It is dropped if the object is gone, or not one that is meant.
    pub outcome: Sender<Result<()>>,
}

/// `None`: the object is not one that is meant.
pub(crate) type Act =
    Arc<dyn Fn(&Service, &mut Cell, &mut Turn<'_>) -> Option<Result<()>> + Send + Sync>;

/// Who asks, and where the reply goes.
pub(crate) struct Arrival {
    pub session: Arc<Session>,
    pub connection: Arc<Connection>,
    pub sequence: Sequence,
    pub acked: Sequence,
    /// In a cluster: the version of the routes by which it was sent.
    pub routes: u64,
    /// In a cluster: it has waited, and those behind it wait for it.
    pub again: bool,
}

impl Arrival {
    pub fn call(&self) -> CallId {
        CallId {
            session: self.session.id,
            sequence: self.sequence,
        }
    }
}

/// An object in the hands of who may change it. `None`: it is gone.
pub(crate) type Held = Option<Item>;

/// An object, as a server has it.
pub(crate) enum Item {
    /// Of a server that is alone.
    Alone(Cell),
    /// Of a server of a cluster.
    Shared(Box<Replica>),
}

impl Item {
    /// The object itself, if it is here.
    pub fn cell(&mut self) -> Option<&mut Cell> {
        match self {
            Item::Alone(cell) => Some(cell),
            Item::Shared(replica) => replica.cell(),
        }
    }

    fn peek(&self) -> Option<&Cell> {
        match self {
            Item::Alone(cell) => Some(cell),
            Item::Shared(replica) => match &replica.body {
                Body::Full(cell) => Some(cell),
                Body::Stub | Body::Lost => None,
            },
        }
    }
}

pub(crate) struct Slot {
    pub id: ObjectId,
    /// Locked for a moment, never while a method runs.
    place: Mutex<Place>,
}

/// There may be millions of objects, so what most do not need is in a box.
struct Place {
    object: Object,
    inbox: Option<Box<Inbox>>,
}

/// Events that came while the object was in somebody's hands.
#[derive(Default)]
struct Inbox(VecDeque<Event>);

enum Object {
    Here(Item),
    /// In somebody's hands, while a method runs; that can be long, so nobody waits for it.
    Away(Option<&'static TypeInfo>),
    /// There is none, but there may be one: in a cluster.
    Absent,
    Gone,
}

/// What became of an event that was handed in.
pub(crate) enum Offer {
    /// The object is the caller's now, who must handle the event and the [`next`](Slot::next) ones.
    Turn(Held, Event),
    /// Somebody else will handle it.
    Queued,
    /// The place is none any more: another one is in the table.
    Gone(Box<Event>),
    /// Too many are in line.
    Full(Box<Event>),
}

impl Slot {
    pub fn new(id: ObjectId, cell: Cell) -> Arc<Slot> {
        Slot::with(id, Object::Here(Item::Alone(cell)))
    }

    /// The place of an object that there is not, and may be.
    pub fn absent(id: ObjectId) -> Arc<Slot> {
        Slot::with(id, Object::Absent)
    }

    fn with(id: ObjectId, object: Object) -> Arc<Slot> {
        let inbox = None;
        Arc::new(Slot {
            id,
            place: Mutex::new(Place { object, inbox }),
        })
    }

    /// How many completion records it has; 0 while a method runs.
    pub fn records(&self) -> usize {
        match &self.place.lock().object {
            Object::Here(item) => item.peek().map_or(0, Cell::records_len),
            _ => 0,
        }
    }

    /// Whether it may be an object of a type of this name: it may be being made.
    pub fn may_be_of(&self, name: &str) -> bool {
        match &self.place.lock().object {
            Object::Here(item) => item.peek().is_some_and(|cell| cell.info().name == name),
            Object::Away(info) => info.is_none_or(|info| info.name == name),
            Object::Absent | Object::Gone => false,
        }
    }

    /// Hands in an event. Events take effect in the order in which they are handed in. If the object
    /// was here it is the caller's now, who must handle the event and the [`next`](Slot::next) ones until
    /// there are none; otherwise somebody else does. With `queued_max` events in line it is refused.
    pub fn submit(
        &self,
        event: Event,
        queued_max: usize,
    ) -> std::result::Result<Option<(Held, Event)>, Box<Event>> {
        let mut place = self.place.lock();
        if let Object::Gone = place.object {
            return Ok(Some((None, event)));
        }
        match place.take() {
            Some(held) => Ok(Some((held, event))),
            None => {
                let Inbox(inbox) = &mut **place.inbox.get_or_insert_default();
                if inbox.len() >= queued_max {
                    return Err(Box::new(event));
                }
                inbox.push_back(event);
                Ok(None)
            }
        }
    }

    /// Hands in an event, whatever became of the object; with `queued_max` events in line it is refused.
    pub fn offer(&self, event: Event, queued_max: usize) -> Offer {
        let mut place = self.place.lock();
        if let Object::Gone = place.object {
            return Offer::Gone(Box::new(event));
        }
        match place.take() {
            Some(held) => Offer::Turn(held, event),
            None => {
                let Inbox(inbox) = &mut **place.inbox.get_or_insert_default();
                if inbox.len() >= queued_max {
                    return Offer::Full(Box::new(event));
                }
                inbox.push_back(event);
                Offer::Queued
            }
        }
    }

    /// Hands in an event that must not be refused.
    pub fn submit_always(&self, event: Event) -> Option<(Held, Event)> {
        self.submit(event, usize::MAX).unwrap_or(None)
    }

    /// The next event for the holder; `None` when there is none, and the object is given back.
    pub fn next(&self, held: Held) -> Option<(Held, Event)> {
        let mut place = self.place.lock();
        if let Some(event) = place.inbox.as_mut().and_then(|inbox| inbox.0.pop_front()) {
            return Some((held, event));
        }
        place.object = held.map_or(Object::Gone, Object::Here);
        None
    }
}

impl Place {
    /// Takes the object, or that there is none, unless somebody has it.
    fn take(&mut self) -> Option<Held> {
        let info = match &self.object {
            Object::Here(item) => item.peek().map(Cell::info),
            Object::Absent | Object::Gone => None,
            Object::Away(_) => return None,
        };
        match std::mem::replace(&mut self.object, Object::Away(info)) {
            Object::Here(item) => Some(Some(item)),
            _ => Some(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_small() {
        // With the counts of its `Arc`, and the allocator's own word, 112 bytes.
        assert_eq!(size_of::<Slot>(), 88);
    }
}
