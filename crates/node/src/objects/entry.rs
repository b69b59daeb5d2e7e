//! An object's entry in the table: the object, unless it is checked out, and the events that queue for it.

use std::collections::VecDeque;
use std::sync::Arc;

use crucial_object::{ObjectId, TypeInfo};

use super::event::Event;
use crate::replication::Replica;
use crate::sync::{LockMutant, Mutex};

/// The state of an object here; `None`: there is no object.
pub(crate) type ObjectState = Option<Replica>;

pub(crate) struct ObjectEntry {
    pub id: ObjectId,
    /// Locked for a moment, never while a method runs.
    slot: Mutex<Slot>,
}

/// There may be millions of objects, so what most do not need is in a box.
struct Slot {
    place: Place,
    #[expect(clippy::box_collection, reason = "nearly all entries have none")]
    inbox: Option<Box<VecDeque<Event>>>,
}

enum Place {
    Here(Replica),
    /// Checked out, while an event is handled. That can be long, so nobody waits for it.
    CheckedOut(Option<&'static TypeInfo>),
    /// There is no object, but there may be one.
    Absent,
    /// The entry was removed from the table.
    Removed,
}

/// The result of offering an event to an object.
pub(crate) enum Offer<T> {
    /// The object is the caller's now, who must handle the event and the [`next`](ObjectEntry::next) ones.
    Turn(T),
    /// Whoever has the object will handle the event.
    Queued,
    /// The entry is not in the table any more: another one is, or can be made.
    Removed(Box<Event>),
    /// Too many events queue.
    Full(Box<Event>),
}

impl ObjectEntry {
    /// The entry of an object that is not here, and may be made.
    pub fn absent(id: ObjectId) -> Arc<ObjectEntry> {
        Arc::new(ObjectEntry {
            id,
            slot: Mutex::new(Slot {
                place: Place::Absent,
                inbox: None,
            }),
        })
    }

    /// How many completion records the object has; 0 while it is checked out.
    pub fn records(&self) -> usize {
        match &self.slot.lock().place {
            Place::Here(replica) => replica.records_len(),
            _ => 0,
        }
    }

    /// Whether this may be an object of a type of this name. An object that is being made may be.
    pub fn may_be_of(&self, name: &str) -> bool {
        match &self.slot.lock().place {
            Place::Here(replica) => replica.info().is_some_and(|info| info.name == name),
            Place::CheckedOut(info) => info.is_none_or(|info| info.name == name),
            Place::Absent | Place::Removed => false,
        }
    }

    /// Looks at the object; `None` if it is not here, or checked out.
    pub fn look_at<T>(&self, look: impl FnOnce(&mut Replica) -> T) -> Option<T> {
        match &mut self.slot.lock().place {
            Place::Here(replica) => Some(look(replica)),
            _ => None,
        }
    }

    /// Offers an event. Events take effect in the order in which they were offered. With `queued_max` events in the queue
    /// one more is refused. `begin` makes a turn of the object and the event, when it is the event's turn.
    pub fn offer<T>(
        &self,
        event: Event,
        queued_max: usize,
        begin: impl FnOnce(ObjectState, Event) -> T,
    ) -> Offer<T> {
        let mut slot = self.slot.lock();
        let info = match &slot.place {
            Place::Here(replica) => replica.info(),
            Place::Absent => None,
            Place::Removed => return Offer::Removed(Box::new(event)),
            Place::CheckedOut(_) => {
                if LockMutant::QueueUnlocked.is_planted() {
                    drop(slot);
                    slot = self.slot.lock();
                }
                let inbox = slot.inbox.get_or_insert_default();
                if inbox.len() >= queued_max {
                    return Offer::Full(Box::new(event));
                }
                inbox.push_back(event);
                return Offer::Queued;
            }
        };
        match std::mem::replace(&mut slot.place, Place::CheckedOut(info)) {
            Place::Here(replica) => Offer::Turn(begin(Some(replica), event)),
            _ => Offer::Turn(begin(None, event)),
        }
    }

    /// The next event for the holder. `None`: no event is left, and the object was given back. An entry without an
    /// object is removed then: the caller takes it out of the table.
    pub fn next(&self, state: &mut ObjectState) -> Option<Event> {
        let mut slot = self.slot.lock();
        if let Some(event) = slot.inbox.as_mut().and_then(|inbox| inbox.pop_front()) {
            return Some(event);
        }
        slot.place = match state.take() {
            Some(replica) => Place::Here(replica),
            None => Place::Removed,
        };
        None
    }
}

impl std::fmt::Debug for ObjectEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.id.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small() {
        // With the counts of its `Arc` and the allocator's own word this is what a small object costs besides its state,
        // and besides its places in the table and in its run.
        assert!(
            size_of::<ObjectEntry>() <= 192,
            "{}",
            size_of::<ObjectEntry>()
        );
    }
}
