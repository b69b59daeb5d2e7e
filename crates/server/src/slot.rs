//! An object's place on its server: its cell, and the calls that queue for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use crucial_core::frame::CallRequest;
use crucial_core::{CallId, Cell, Turn};
use crucial_object::{Error, ObjectId, Result, Sequence, SessionId, TypeInfo};
use parking_lot::Mutex;

use crate::connection::Connection;
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
    EndSession(SessionId),
    /// Somebody looks at the object, between two calls.
    Visit(Visit),
    /// The object goes.
    End(Error),
}

/// What to do with an object of a type.
pub(crate) struct Visit {
    pub info: &'static TypeInfo,
    pub act: Act,
    /// Where the outcome goes. It is dropped if the object is gone, or of another type.
    pub outcome: Sender<Result<()>>,
}

pub(crate) type Act = Arc<dyn Fn(&mut Cell, &mut Turn<'_>) -> Result<()> + Send + Sync>;

/// Who asks, and where the reply goes.
pub(crate) struct Arrival {
    pub session: Arc<Session>,
    pub connection: Arc<Connection>,
    pub sequence: Sequence,
    pub acked: Sequence,
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
pub(crate) type Held = Option<Cell>;

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
    Here(Cell),
    /// In somebody's hands, while a method runs; that can be long, so nobody waits for it.
    Away(&'static TypeInfo),
    Gone,
}

impl Slot {
    pub fn new(id: ObjectId, cell: Cell) -> Arc<Slot> {
        Arc::new(Slot {
            id,
            place: Mutex::new(Place {
                object: Object::Here(cell),
                inbox: None,
            }),
        })
    }

    /// How many completion records it has; 0 while a method runs.
    pub fn records(&self) -> usize {
        match &self.place.lock().object {
            Object::Here(cell) => cell.records_len(),
            _ => 0,
        }
    }

    /// The object's type; `None` if it is gone.
    pub fn info(&self) -> Option<&'static TypeInfo> {
        match &self.place.lock().object {
            Object::Here(cell) => Some(cell.info()),
            Object::Away(info) => Some(info),
            Object::Gone => None,
        }
    }

    /// Whether it is an object of this type.
    pub fn is_of(&self, info: &TypeInfo) -> bool {
        self.info().is_some_and(|its| std::ptr::eq(its, info))
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
        let info = match &place.object {
            Object::Here(cell) => cell.info(),
            Object::Away(info) => info,
            Object::Gone => return Ok(Some((None, event))),
        };
        match std::mem::replace(&mut place.object, Object::Away(info)) {
            Object::Here(cell) => Ok(Some((Some(cell), event))),
            _ => {
                let Inbox(inbox) = &mut **place.inbox.get_or_insert_default();
                if inbox.len() >= queued_max {
                    return Err(Box::new(event));
                }
                inbox.push_back(event);
                Ok(None)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_small() {
        // With the counts of its `Arc`, and the allocator's own word, 112 bytes.
        assert_eq!(size_of::<Slot>(), 88);
    }
}
