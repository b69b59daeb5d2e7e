//! A condition variable.

use std::collections::VecDeque;
use std::task::Poll;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::mutex::MutexGuard;
use crate::valid::is_new;
use crate::{Element, Error, Result, SessionId, Shared, Wake, shared};

/// Lets threads wait for a change of what a [`Mutex`](super::Mutex) holds, as [`std::sync::Condvar`].
///
/// A method of your own `#[shared]` type that returns a [`Poll`] does the same with one message: prefer it.
///
/// A thread that dies while it waits gives up its place; a notification that it had got and not
/// used goes to another.
///
/// ```
/// use std::time::Duration;
///
/// use crucial::sync::{Condvar, Mutex};
/// use crucial::{Result, Shared, cloud, thread};
///
/// #[cloud]
/// fn work(ready: Shared<Mutex<bool>>, changed: Shared<Condvar>) -> Result<()> {
///     *ready.lock()? = true;
///     changed.notify_one().map(drop)
/// }
///
/// let (ready, changed) = (Shared::new(Mutex::new(false))?, Shared::new(Condvar::new())?);
/// let worker = thread::spawn(work(ready.clone(), changed.clone()));
/// let guard = changed.wait_while(ready.lock()?, |ready| !*ready)?;
/// assert!(*guard);
/// let (_guard, result) = changed.wait_timeout(guard, Duration::from_millis(10))?;
/// assert!(result.timed_out());
/// # let _joined = worker.join();
/// # Ok::<(), crucial::Error>(())
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[doc(alias = "Condition")]
pub struct Condvar {
    /// The calls that wait, oldest first.
    waiters: VecDeque<Waiter>,
    /// The number of the next one.
    next: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Waiter {
    number: u64,
    session: SessionId,
    notified: bool,
}

impl Condvar {
    /// A condition variable for which nobody waits.
    pub const fn new() -> Condvar {
        Condvar {
            waiters: VecDeque::new(),
            next: 0,
        }
    }

    fn notify(&mut self, count: usize) -> u64 {
        let waiting = self.waiters.iter_mut().filter(|waiter| !waiter.notified);
        let mut notified = 0;
        for waiter in waiting.take(count) {
            waiter.notified = true;
            notified += 1;
        }
        notified
    }
}

#[shared(name = "crucial::Condvar", crate = crate)]
impl Condvar {
    /// Nobody waits.
    #[valid]
    fn valid(&self) -> Result<(), String> {
        is_new(
            self.waiters.is_empty() && self.next == 0,
            "nobody who waits",
        )
    }

    /// Takes a place among those who wait, before the mutex is released.
    #[doc(hidden)]
    pub fn enter(&mut self, #[caller] caller: SessionId) -> u64 {
        let number = self.next;
        self.next += 1;
        self.waiters.push_back(Waiter {
            number,
            session: caller,
            notified: false,
        });
        number
    }

    /// Blocks until the place was notified, and gives it up.
    #[doc(hidden)]
    pub fn notified(&mut self, number: u64) -> Poll<()> {
        let place = self.waiters.iter().position(|w| w.number == number);
        match place {
            Some(place) if !self.waiters[place].notified => Poll::Pending,
            Some(place) => {
                self.waiters.remove(place);
                Poll::Ready(())
            }
            // The place was given up with the session: a spurious wake-up, as std has them too.
            None => Poll::Ready(()),
        }
    }

    /// Gives a place up; whether it was notified.
    #[doc(hidden)]
    pub fn give_up(&mut self, number: u64) -> bool {
        let place = self.waiters.iter().position(|w| w.number == number);
        let waiter = place.and_then(|place| self.waiters.remove(place));
        waiter.is_none_or(|waiter| waiter.notified)
    }

    /// Wakes the thread that has waited for longest; how many were there, 0 or 1.
    #[doc(alias = "signal")]
    pub fn notify_one(&mut self) -> u64 {
        self.notify(1)
    }

    /// Wakes all threads that wait; how many.
    #[doc(alias = "signalAll")]
    pub fn notify_all(&mut self) -> u64 {
        self.notify(usize::MAX)
    }

    /// How many threads wait.
    pub fn waiting(&self) -> u64 {
        let waiting = self.waiters.iter().filter(|waiter| !waiter.notified);
        waiting.count() as u64
    }

    /// Nobody unless somebody was notified.
    #[wake]
    fn wake(&self) -> Wake {
        if self.waiters.iter().any(|waiter| waiter.notified) {
            Wake::All
        } else {
            Wake::None
        }
    }

    /// Its places are given up, and its notifications passed on.
    #[departed]
    fn departed(&mut self, session: SessionId) {
        let lost = self
            .waiters
            .iter()
            .filter(|w| w.session == session && w.notified);
        let lost = lost.count();
        self.waiters.retain(|waiter| waiter.session != session);
        self.notify(lost);
    }
}

impl Shared<Condvar> {
    /// Unlocks the mutex, waits for a notification, and locks the mutex again. No notification between
    /// the unlocking and the waiting is missed. There can be spurious wake-ups: look at the condition
    /// again, or use [`wait_while`](Shared#method.wait_while).
    pub fn wait<T: Element + 'static>(&self, guard: MutexGuard<T>) -> Result<MutexGuard<T>> {
        let mutex = guard.mutex().clone();
        let mut place = self.place()?;
        guard.unlock()?;
        self.notified(place.number)?;
        place.taken = false;
        mutex.lock()
    }

    /// Waits while `condition` holds for the value.
    pub fn wait_while<T: Element + 'static>(
        &self,
        mut guard: MutexGuard<T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Result<MutexGuard<T>> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// As [`wait`](Shared#method.wait), for no longer than `timeout`. (The time to lock the mutex again comes on top.)
    pub fn wait_timeout<T: Element + 'static>(
        &self,
        guard: MutexGuard<T>,
        timeout: Duration,
    ) -> Result<(MutexGuard<T>, WaitTimeoutResult)> {
        let mutex = guard.mutex().clone();
        let mut place = self.place()?;
        guard.unlock()?;
        let notified = match self.with_timeout(timeout).notified(place.number) {
            Ok(()) => {
                place.taken = false;
                true
            }
            Err(Error::TimedOut { .. }) => {
                place.taken = false;
                self.give_up(place.number)?
            }
            Err(error) => return Err(error),
        };
        Ok((mutex.lock()?, WaitTimeoutResult(!notified)))
    }

    fn place(&self) -> Result<Place<'_>> {
        Ok(Place {
            condvar: self,
            number: self.enter()?,
            taken: true,
        })
    }
}

/// How a wait with a time-out ended, as [`std::sync::WaitTimeoutResult`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether the time had passed before there was a notification.
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

/// A place among those who wait. If the wait fails it is given up, so that no notification goes there.
struct Place<'a> {
    condvar: &'a Shared<Condvar>,
    number: u64,
    taken: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.taken {
            return;
        }
        // Without an answer the waiter goes with the session, or has gone with the object.
        if let Ok(true) = self.condvar.give_up(self.number) {
            // The waiter had been notified, and did not use that.
            let _ = self.condvar.notify_one();
        }
    }
}
