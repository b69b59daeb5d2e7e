//! A call in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crucial_object::{Error, ObjectId, Result, Sequence};
use parking_lot::{Condvar, Mutex};

use crate::link::Link;

/// Whom a request is for.
#[derive(Clone)]
pub(crate) enum To {
    /// The server that answers for this object, whichever that is.
    Object(ObjectId),
    /// This one.
    Server(Arc<Link>),
}

/// A call, from when it is sent until its caller has the result.
pub(crate) struct Slot {
    pub sequence: Sequence,
    pub to: To,
    /// Kept until it is answered, to be sent again on another connection.
    pub frame: Vec<u8>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    result: Option<Result<Vec<u8>>>,
    /// The result was there; it may be taken.
    done: bool,
    /// Its thread sleeps, and is to read for all.
    lead: bool,
    /// In a cluster: where the answer is to come from, while that is known and the answer has not come.
    link: Option<Arc<Link>>,
    /// `link` is another than when its thread looked.
    moved: bool,
    /// Its task sleeps.
    waker: Option<Waker>,
}

/// Why a follower woke up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    Done,
    Lead,
    /// The answer is to come from elsewhere.
    Moved,
    /// It was only to sleep until then.
    Late,
}

impl Slot {
    pub fn new(sequence: Sequence, to: To, frame: Vec<u8>, link: Option<Arc<Link>>) -> Slot {
        let state = State {
            link,
            ..State::default()
        };
        Slot {
            sequence,
            to,
            frame,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    pub fn object(&self) -> Option<ObjectId> {
        match self.to {
            To::Object(object) => Some(object),
            To::Server(_) => None,
        }
    }

    /// The result came.
    pub fn complete(&self, result: Result<Vec<u8>>, tasks: &AtomicUsize) {
        let waker = {
            let mut state = self.state.lock();
            if state.done {
                return;
            }
            state.result = Some(result);
            state.done = true;
            state.link = None;
            state.waker.take()
        };
        self.changed.notify_one();
        if let Some(waker) = waker {
            tasks.fetch_sub(1, Ordering::AcqRel);
            waker.wake();
        }
    }

    pub fn is_done(&self) -> bool {
        self.state.lock().done
    }

    /// The result, once it is there.
    pub fn take(&self) -> Result<Vec<u8>> {
        self.state
            .lock()
            .result
            .take()
            .unwrap_or(Err(Error::Cancelled))
    }

    /// Where the answer is to come from.
    pub fn link(&self) -> Option<Arc<Link>> {
        self.state.lock().link.clone()
    }

    /// The same, for its thread, which is told when that changes from now on.
    pub fn look(&self) -> Option<Arc<Link>> {
        let mut state = self.state.lock();
        state.moved = false;
        state.link.clone()
    }

    /// Whether there is an answer, or it is to come from elsewhere.
    pub fn is_not_at(&self, link: &Arc<Link>) -> bool {
        let state = self.state.lock();
        state.done || !is_same(state.link.as_ref(), Some(link))
    }

    /// The answer is to come from there; whether that is new.
    pub fn set_link(&self, link: Option<&Arc<Link>>) -> bool {
        let mut state = self.state.lock();
        if state.done || is_same(state.link.as_ref(), link) {
            return false;
        }
        state.link = link.cloned();
        state.moved = true;
        self.changed.notify_one();
        true
    }

    /// Makes the thread that sleeps on it the one that reads `at` this link (`None`: there is only one); false if it
    /// needs not read there any more.
    pub fn lead(&self, at: Option<&Arc<Link>>) -> bool {
        let mut state = self.state.lock();
        if state.done || at.is_some() && !is_same(state.link.as_ref(), at) {
            return false;
        }
        state.lead = true;
        self.changed.notify_one();
        true
    }

    /// Whether it was made the reader since it looked last.
    pub fn take_lead(&self) -> bool {
        std::mem::take(&mut self.state.lock().lead)
    }

    /// Sleeps until the result is there, or there is something else to do.
    pub fn follow(&self, until: Option<Instant>) -> Woken {
        let mut state = self.state.lock();
        loop {
            if state.done {
                return Woken::Done;
            }
            if std::mem::take(&mut state.moved) {
                return Woken::Moved;
            }
            if std::mem::take(&mut state.lead) {
                return Woken::Lead;
            }
            let Some(until) = until else {
                self.changed.wait(&mut state);
                continue;
            };
            if self.changed.wait_until(&mut state, until).timed_out() && !state.done {
                return Woken::Late;
            }
        }
    }

    pub fn poll(&self, context: &mut Context<'_>, tasks: &AtomicUsize) -> Poll<Result<Vec<u8>>> {
        let mut state = self.state.lock();
        if let Some(result) = state.result.take() {
            return Poll::Ready(result);
        }
        if state.waker.replace(context.waker().clone()).is_none() {
            tasks.fetch_add(1, Ordering::AcqRel);
        }
        Poll::Pending
    }

    /// Nobody wants the result any more; whether it is still to come.
    pub fn abandon(&self, tasks: &AtomicUsize) -> bool {
        let mut state = self.state.lock();
        if state.waker.take().is_some() {
            tasks.fetch_sub(1, Ordering::AcqRel);
        }
        !state.done
    }
}

fn is_same(one: Option<&Arc<Link>>, other: Option<&Arc<Link>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}
