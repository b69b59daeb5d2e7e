//! A fair counting semaphore.

use std::collections::VecDeque;
use std::task::Poll;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, Shared, Wake, shared};

/// A number of permits that threads acquire and release.
///
/// It is fair: permits are given in the order in which they were asked for, and a request for many
/// is not overtaken by later requests for few. Permits have no owner: whoever holds one may release
/// it, and a thread that dies with a permit does not give it back. A thread that dies while it waits
/// gives up its place when its session's lease lapses.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Semaphore {
    available: u64,
    /// Requests that wait, oldest first: number and permits.
    queue: VecDeque<(u64, u64)>,
    /// The number of the next request.
    next: u64,
}

impl Semaphore {
    /// A semaphore with this many permits.
    pub const fn new(permits: u64) -> Semaphore {
        Semaphore {
            available: permits,
            queue: VecDeque::new(),
            next: 0,
        }
    }

    fn leave(&mut self, request: u64) {
        self.queue.retain(|(number, _)| *number != request);
    }

    fn take(&mut self, permits: u64) -> bool {
        let enough = self.available >= permits;
        if enough {
            self.available -= permits;
        }
        enough
    }

    fn acquire_in_turn(&mut self, permits: u64, place: &mut Option<u64>) -> Poll<()> {
        let first = match place {
            None => self.queue.is_empty(),
            Some(request) => self
                .queue
                .front()
                .is_some_and(|(number, _)| number == request),
        };
        if first && self.take(permits) {
            if place.is_some() {
                self.queue.pop_front();
            }
            return Poll::Ready(());
        }
        if place.is_none() {
            self.queue.push_back((self.next, permits));
            *place = Some(self.next);
            self.next += 1;
        }
        Poll::Pending
    }
}

#[shared(name = "crucial::Semaphore", crate = crate)]
impl Semaphore {
    /// Takes a permit; blocks until there is one.
    pub fn acquire(&mut self, #[ticket(cancel = Self::leave)] place: &mut Option<u64>) -> Poll<()> {
        self.acquire_in_turn(1, place)
    }

    /// Takes `permits` at once; blocks until there are as many.
    pub fn acquire_many(
        &mut self,
        permits: u64,
        #[ticket(cancel = Self::leave)] place: &mut Option<u64>,
    ) -> Poll<()> {
        self.acquire_in_turn(permits, place)
    }

    /// Takes `permits` if they are there and nobody waits for some; whether it did.
    pub fn try_acquire_many(&mut self, permits: u64) -> bool {
        self.queue.is_empty() && self.take(permits)
    }

    /// Takes a permit if there is one and nobody waits for one; whether it did.
    pub fn try_acquire(&mut self) -> bool {
        self.try_acquire_many(1)
    }

    /// Gives a permit (back).
    pub fn release(&mut self) {
        self.release_many(1);
    }

    /// Gives `permits` (back).
    pub fn release_many(&mut self, permits: u64) {
        self.available = self.available.saturating_add(permits);
    }

    /// The permits that are there.
    pub fn available_permits(&self) -> u64 {
        self.available
    }

    /// How many threads wait.
    pub fn waiting(&self) -> u64 {
        self.queue.len() as u64
    }

    /// Requests are served in order, so only the first can be next.
    #[wake]
    fn wake(&self) -> Wake {
        match self.queue.front() {
            Some((_, permits)) if self.available >= *permits => Wake::First,
            _ => Wake::None,
        }
    }
}

impl Shared<Semaphore> {
    /// Takes a permit within `timeout`; whether it did.
    #[doc(alias = "tryAcquire")]
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<bool> {
        match self.timeout(timeout).acquire() {
            Ok(()) => Ok(true),
            Err(Error::TimedOut { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_overtakes() {
        let mut semaphore = Semaphore::new(1);
        let (mut many, mut one) = (None, None);
        assert!(semaphore.acquire_many(2, &mut many).is_pending());
        assert!(semaphore.acquire(&mut one).is_pending());
        assert!(!semaphore.try_acquire());
        assert_eq!(semaphore.wake(), Wake::None);
        semaphore.release();
        assert_eq!(semaphore.wake(), Wake::First);
        assert!(semaphore.acquire(&mut one).is_pending());
        assert!(semaphore.acquire_many(2, &mut many).is_ready());
        assert_eq!(semaphore.available_permits(), 0);
        semaphore.leave(one.unwrap());
        semaphore.release();
        assert!(semaphore.try_acquire());
    }
}
