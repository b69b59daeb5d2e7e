//! Timers: deadlines of waiting calls, handshakes and leases.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Weak;

use crucial_object::{ObjectId, SessionId};

use crate::cell::CallId;
use crate::connection::Connection;
use crate::ids::Millis;
use crate::objects::RoundId;
use crate::sync::{LockMutant, Mutex};

/// A timer that is due.
#[derive(Debug)]
pub(crate) enum Timer {
    /// The call ends, if it still waits in the object. It was to wait for this long.
    Call(CallId, ObjectId, Millis),
    /// The connection closes, if nobody said hello on it.
    Hello(Weak<Connection>),
    /// Requests of the session that know too much have waited for long.
    Early(SessionId),
    /// Leases are looked at.
    Leases,
    /// A question about objects was not answered by all of them.
    Round(RoundId),
    /// Partitions are told that time has passed.
    Tick,
}

/// Below this many deadlines nobody looks for those that have lost their meaning.
const PURGE_AT_MIN: usize = 1024;

/// All deadlines, the earliest first.
#[derive(Default)]
pub(crate) struct Timers(Mutex<Deadlines>);

#[derive(Default)]
struct Deadlines {
    heap: BinaryHeap<Reverse<Deadline>>,
    /// Orders deadlines of the same time.
    count: u64,
    purge_at: usize,
}

#[derive(Debug)]
struct Deadline {
    at: Millis,
    count: u64,
    timer: Timer,
}

impl Timers {
    /// Sets a timer; whether it is the earliest one now.
    pub fn add(&self, at: Millis, timer: Timer) -> bool {
        let mut deadlines = self.0.lock();
        deadlines.count += 1;
        let count = deadlines.count;
        let earliest = deadlines.heap.peek().map(|first| first.0.at);
        if LockMutant::WakeUnlocked.is_planted() {
            drop(deadlines);
            deadlines = self.0.lock();
        }
        deadlines.heap.push(Reverse(Deadline { at, count, timer }));
        earliest.is_none_or(|earliest| at < earliest)
    }

    /// When the earliest timer is due.
    pub fn next(&self) -> Option<Millis> {
        self.0.lock().heap.peek().map(|first| first.0.at)
    }

    /// Takes out a timer that is due. `has_meaning` knows which need not be kept.
    pub fn take_due(&self, now: Millis, has_meaning: &dyn Fn(&Timer) -> bool) -> Option<Timer> {
        let mut deadlines = self.0.lock();
        if deadlines.heap.len() > deadlines.purge_at.max(PURGE_AT_MIN) {
            deadlines
                .heap
                .retain(|deadline| has_meaning(&deadline.0.timer));
            deadlines.purge_at = 2 * deadlines.heap.len();
        }
        if deadlines.heap.peek()?.0.at > now {
            return None;
        }
        deadlines.heap.pop().map(|due| due.0.timer)
    }

    pub fn len(&self) -> usize {
        self.0.lock().heap.len()
    }
}

impl Ord for Deadline {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.count).cmp(&(other.at, other.count))
    }
}

impl PartialOrd for Deadline {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Deadline {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.count) == (other.at, other.count)
    }
}

impl Eq for Deadline {}
