//! A call in flight.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use crucial_object::{Error, ObjectId, Result, Sequence};
use parking_lot::{Condvar, Mutex};

/// A call, from when it is sent until its caller has the result.
pub(crate) struct Slot {
    pub sequence: Sequence,
    pub object: ObjectId,
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
    /// Its task sleeps.
    waker: Option<Waker>,
}

/// Why a follower woke up.
pub(crate) enum Woken {
    Done,
    Lead,
}

impl Slot {
    pub fn new(sequence: Sequence, object: ObjectId, frame: Vec<u8>) -> Slot {
        Slot {
            sequence,
            object,
            frame,
            state: Mutex::default(),
            changed: Condvar::new(),
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

    /// Makes the thread that sleeps on it the one that reads; false if it needs not read any more.
    pub fn lead(&self) -> bool {
        let mut state = self.state.lock();
        if state.done {
            return false;
        }
        state.lead = true;
        self.changed.notify_one();
        true
    }

    /// Sleeps until the result is there, or it is this thread's turn to read.
    pub fn follow(&self) -> Woken {
        let mut state = self.state.lock();
        loop {
            if state.done {
                return Woken::Done;
            }
            if std::mem::take(&mut state.lead) {
                return Woken::Lead;
            }
            self.changed.wait(&mut state);
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
