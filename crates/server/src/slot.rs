//! An object's place on its server: its cell, and the calls that queue for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

use crucial_core::frame::CallRequest;
use crucial_core::{CallId, Cell};
use crucial_object::{Error, ObjectId, RunId, Sequence, SessionId};
use parking_lot::{ArcMutexGuard, Mutex, RawMutex};

use crate::connection::Connection;
use crate::session::Session;

/// Something that happens to an object.
pub(crate) enum Event {
    /// A call arrived on a connection.
    Call(Arrival, CallRequest),
    /// A request to clear its poison arrived.
    ClearPoison(Arrival),
    /// A waiting call ends without a result.
    Cancel(CallId, Error),
    /// A session with waiting calls in it ended.
    EndSession(SessionId),
    /// The object goes.
    End(Error),
}

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

/// The right to change an object. `None` in it: the object is gone.
pub(crate) type Held = ArcMutexGuard<RawMutex, Option<Cell>>;

pub(crate) struct Slot {
    pub id: ObjectId,
    /// The run that it goes with; `None`: it is persistent.
    pub run: Option<RunId>,
    /// Held while a method runs, which can be long. So nobody waits for it: who finds it taken leaves
    /// its event in the inbox, which the holder empties before and after it lets go.
    cell: Arc<Mutex<Option<Cell>>>,
    inbox: Mutex<VecDeque<Event>>,
    /// The inbox's length, to be seen without its lock.
    queued: AtomicUsize,
}

impl Slot {
    pub fn new(id: ObjectId, run: Option<RunId>, cell: Cell) -> Arc<Slot> {
        Arc::new(Slot {
            id,
            run,
            cell: Arc::new(Mutex::new(Some(cell))),
            inbox: Mutex::default(),
            queued: AtomicUsize::new(0),
        })
    }

    /// How many events queue.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// How many completion records it has; 0 while a method runs.
    pub fn records(&self) -> usize {
        let cell = self.cell.try_lock();
        cell.and_then(|cell| cell.as_ref().map(Cell::records_len))
            .unwrap_or(0)
    }

    /// Hands in an event. Events take effect in the order in which they are handed in. If the object
    /// was free it is the caller's now, who must [`next`](Slot::next) and handle events until there are
    /// none; otherwise somebody else does.
    pub fn submit(&self, event: Event) -> Option<(Held, Event)> {
        if self.queued.load(Ordering::Acquire) == 0
            && let Some(held) = self.cell.try_lock_arc()
        {
            return Some((held, event));
        }
        {
            let mut inbox = self.inbox.lock();
            inbox.push_back(event);
            self.queued.store(inbox.len(), Ordering::Release);
        }
        self.reclaim()
    }

    /// The next event for the holder; `None` when there is none, and the object is let go.
    pub fn next(&self, held: Held) -> Option<(Held, Event)> {
        if self.queued.load(Ordering::Acquire) > 0
            && let Some(event) = self.pop()
        {
            return Some((held, event));
        }
        drop(held);
        self.reclaim()
    }

    /// Takes the object for an event in the inbox, if there is one and nobody has the object.
    ///
    /// Who puts an event in and then fails to lock, and who unlocks and then finds the inbox empty, can
    /// not both be right: the fence orders each one's write before its read.
    fn reclaim(&self) -> Option<(Held, Event)> {
        fence(Ordering::SeqCst);
        while self.queued.load(Ordering::Acquire) > 0 {
            let held = self.cell.try_lock_arc()?;
            if let Some(event) = self.pop() {
                return Some((held, event));
            }
            drop(held);
            fence(Ordering::SeqCst);
        }
        None
    }

    fn pop(&self) -> Option<Event> {
        let mut inbox = self.inbox.lock();
        let event = inbox.pop_front();
        self.queued.store(inbox.len(), Ordering::Release);
        event
    }
}
