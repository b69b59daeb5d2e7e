//! Wakes whoever waits for a call: a thread that sleeps, or a task.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crucial_object::{Error, Result};
use parking_lot::{Condvar, Mutex};

use crate::session::Member;

pub(crate) struct Waiter {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    result: Option<Result<Vec<u8>>>,
    /// The result has come; it may be taken.
    is_done: bool,
    /// The thread that sleeps is to read for all.
    leads: bool,
    /// Where the answer is to come from, while that is known and the answer has not come.
    member: Option<Member>,
    /// `member` is another than when the thread looked.
    has_moved: bool,
    /// Of the task that sleeps.
    waker: Option<Waker>,
}

/// Why a follower woke up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    Done,
    Lead,
    /// The answer is to come from elsewhere.
    Moved,
    /// The time to sleep is over.
    Late,
}

impl Waiter {
    pub fn new(member: Option<Member>) -> Waiter {
        let state = State {
            member,
            ..State::default()
        };
        Waiter {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// The result has come.
    pub fn complete(&self, result: Result<Vec<u8>>, tasks: &AtomicUsize) {
        let waker = {
            let mut state = self.state.lock();
            if state.is_done {
                return;
            }
            state.result = Some(result);
            state.is_done = true;
            state.member = None;
            state.waker.take()
        };
        self.changed.notify_one();
        if let Some(waker) = waker {
            tasks.fetch_sub(1, Ordering::AcqRel);
            waker.wake();
        }
    }

    pub fn is_done(&self) -> bool {
        self.state.lock().is_done
    }

    /// The result, if it has come.
    pub fn take_done(&self) -> Option<Result<Vec<u8>>> {
        let mut state = self.state.lock();
        let result = state.is_done.then(|| state.result.take());
        result.map(|result| result.unwrap_or(Err(Error::Cancelled)))
    }

    /// Where the answer is to come from.
    pub fn member(&self) -> Option<Member> {
        self.state.lock().member
    }

    /// The same, for the thread that waits: it is told when that changes from now on.
    pub fn look(&self) -> Option<Member> {
        let mut state = self.state.lock();
        state.has_moved = false;
        state.member
    }

    /// Whether the answer has come, or is to come from elsewhere.
    pub fn is_not_at(&self, member: Member) -> bool {
        let state = self.state.lock();
        state.is_done || state.member != Some(member)
    }

    /// The answer is to come from there.
    pub fn move_to(&self, member: Option<Member>) {
        let mut state = self.state.lock();
        if !state.is_done && state.member != member {
            state.member = member;
            state.has_moved = true;
            self.changed.notify_one();
        }
    }

    /// Makes the thread that sleeps the one that reads from this server; false if it needs not read there any more.
    pub fn lead(&self, at: Member) -> bool {
        let mut state = self.state.lock();
        if state.is_done || state.member != Some(at) {
            return false;
        }
        state.leads = true;
        self.changed.notify_one();
        true
    }

    /// Whether its thread was made the reader since the last time it was asked.
    pub fn take_lead(&self) -> bool {
        std::mem::take(&mut self.state.lock().leads)
    }

    /// Sleeps until the result is there, or there is something else to do.
    pub fn follow(&self, until: Option<Instant>) -> Woken {
        let mut state = self.state.lock();
        loop {
            if state.is_done {
                return Woken::Done;
            }
            if std::mem::take(&mut state.has_moved) {
                return Woken::Moved;
            }
            if std::mem::take(&mut state.leads) {
                return Woken::Lead;
            }
            let Some(until) = until else {
                self.changed.wait(&mut state);
                continue;
            };
            if self.changed.wait_until(&mut state, until).timed_out() && !state.is_done {
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
        !state.is_done
    }
}
