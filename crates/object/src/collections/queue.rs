//! A bounded blocking queue.

use std::collections::VecDeque;
use std::task::Poll;

use serde::{Deserialize, Serialize};

use super::page_size;
use crate::opaque::sealed;
use crate::{Element, Error, Result, Wake, shared};

/// A first-in-first-out queue between threads, as [`std::sync::mpsc::sync_channel`] but for many
/// consumers: who pushes waits while it is full, who pops waits while it is empty, first come first served.
///
/// An item that was popped belongs to who popped it; if that process dies, it is gone with it. So is an item
/// that this process cannot decode, and one whose [`Pending`](crate::Pending) is dropped after it was popped.
///
/// ```
/// use crucial::collections::Queue;
/// use crucial::{Result, Shared, cloud, thread};
///
/// #[cloud]
/// fn work(jobs: Shared<Queue<u64>>) -> Result<u64> {
///     let mut sum = 0;
///     while let Some(job) = jobs.pop()? { // waits; `None` when the queue is closed and empty
///         sum += job;
///     }
///     Ok(sum)
/// }
///
/// let jobs = Shared::new(Queue::new(2))?;
/// let worker = thread::spawn(work(jobs.clone()));
/// for job in 1..=10 {
///     jobs.push(job)?; // waits while it is full
/// }
/// jobs.close()?;
/// # let _joined = worker.join();
/// assert!(jobs.is_closed()? && jobs.is_empty()?);
/// # Ok::<(), crucial::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "T: Element")]
#[doc(alias("BlockingQueue", "LinkedBlockingQueue", "channel"))]
pub struct Queue<T> {
    #[serde(with = "sealed::seq")]
    items: VecDeque<T>,
    capacity: u64,
    closed: bool,
}

impl<T> Queue<T> {
    /// An empty queue that holds up to `capacity` items, at least one.
    pub const fn new(capacity: u64) -> Queue<T> {
        Queue {
            items: VecDeque::new(),
            capacity: if capacity == 0 { 1 } else { capacity },
            closed: false,
        }
    }
}

impl<T> Default for Queue<T> {
    /// A queue without a bound.
    fn default() -> Self {
        Queue::new(u64::MAX)
    }
}

/// The text of the error of a push to a closed queue.
#[doc(hidden)]
pub const QUEUE_CLOSED: &str = "the queue is closed: it takes no more items";

#[shared(name = "crucial::Queue", crate = crate)]
impl<T: Clone> Queue<T> {
    /// There is room for the items.
    #[valid]
    fn valid(&self) -> Result<(), String> {
        let (items, capacity) = (self.items.len() as u64, self.capacity);
        match capacity > 0 && items <= capacity {
            true => Ok(()),
            false => Err(format!("{items} items, where there is room for {capacity}")),
        }
    }

    /// Appends an item; blocks while the queue is full.
    ///
    /// # Errors
    ///
    /// If the queue is closed.
    #[doc(alias("put", "send"))]
    #[fallible]
    pub fn push(&mut self, item: T) -> Poll<Result<()>> {
        if self.closed {
            return Poll::Ready(Err(Error::from(QUEUE_CLOSED)));
        }
        if self.is_full() {
            return Poll::Pending;
        }
        self.items.push_back(item);
        Poll::Ready(Ok(()))
    }

    /// Takes the oldest item; blocks while the queue is empty. `None` when the queue is closed and empty.
    #[doc(alias("take", "recv"))]
    pub fn pop(&mut self) -> Poll<Option<T>> {
        match self.items.pop_front() {
            Some(item) => Poll::Ready(Some(item)),
            None if self.closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Appends an item if there is room and the queue is open; whether it did.
    #[doc(alias = "offer")]
    pub fn try_push(&mut self, item: T) -> bool {
        let room = !self.closed && !self.is_full();
        if room {
            self.items.push_back(item);
        }
        room
    }

    /// Takes the oldest item, if there is one.
    #[doc(alias = "poll")]
    pub fn try_pop(&mut self) -> Option<T> {
        self.items.pop_front()
    }

    /// Takes up to `count` items, oldest first.
    #[doc(alias = "drainTo")]
    pub fn drain(&mut self, count: u64) -> Vec<T> {
        let count = page_size(count).min(self.items.len());
        self.items.drain(..count).collect()
    }

    /// Takes no more items. Who pushes gets an error; who pops gets what is left, and then `None`.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The number of items.
    #[doc(alias = "size")]
    pub fn len(&self) -> u64 {
        self.items.len() as u64
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether there is no room.
    pub fn is_full(&self) -> bool {
        self.items.len() as u64 >= self.capacity
    }

    /// How many items it holds at most.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Those who wait all wait for the same: items, or room.
    #[wake]
    fn wake(&self) -> Wake {
        Wake::First
    }
}
