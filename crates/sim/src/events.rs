//! What happens when: the queue of events, and clocks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

pub const MS: u64 = 1000;

/// What a clock may be wrong by, in parts of a thousand.
pub const DRIFT: u64 = 10;

/// Events in the order of their times; of the same time, in the order in which they were added.
pub struct Events<E> {
    heap: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<E>>,
    free: Vec<usize>,
    /// How many were added.
    pub count: u64,
}

impl<E> Events<E> {
    pub fn new() -> Events<E> {
        Events {
            heap: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            count: 0,
        }
    }

    pub fn add(&mut self, at_us: u64, event: E) {
        self.count += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        self.heap.push(Reverse((at_us, self.count, place)));
    }

    /// The next event, and when it is.
    pub fn next(&mut self) -> Option<(u64, E)> {
        let Reverse((at_us, _, place)) = self.heap.pop()?;
        self.free.push(place);
        Some((at_us, self.events[place].take()?))
    }

    pub fn len(&self) -> usize {
        self.heap.len()
    }
}

/// A moment, by the number of the event in it and in milliseconds.
#[derive(Clone, Copy)]
pub struct Now {
    pub event: u64,
    pub ms: u64,
}

/// A clock that drifts.
#[derive(Clone, Copy)]
pub struct Clock {
    pub offset_ms: u64,
    pub per_mille: u64,
}

impl Clock {
    pub fn read(&self, now_us: u64) -> u64 {
        self.offset_ms + now_us / MS * self.per_mille / 1000
    }

    /// A time at which the clock shows at least this.
    pub fn when(&self, shown_ms: u64) -> u64 {
        let elapsed_ms = shown_ms.saturating_sub(self.offset_ms) * 1000;
        (elapsed_ms.div_ceil(self.per_mille)) * MS
    }
}
