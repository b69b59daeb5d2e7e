//! A condition variable that is local until it travels.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{LockResult, PoisonError};
use std::time::{Duration, Instant};

use crucial_object::{Error, Shared, held, sync as shared};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::mutex::MutexGuard;
use crate::local::{
    Arc, Condvar as HubCondvar, Mutex as HubMutex, MutexGuard as HubGuard, OnceLock,
};
use crate::remote::{Remote, must};
use crate::statics;

/// Lets threads wait for a change of what a [`Mutex`](super::Mutex) holds, as [`std::sync::Condvar`].
///
/// # Panics
///
/// Operations on a shared one panic with the error's text if the call fails.
pub struct Condvar {
    /// Those who wait here, oldest first.
    hub: HubMutex<VecDeque<Arc<Waiter>>>,
    remote: OnceLock<Arc<Remote<shared::Condvar>>>,
}

/// A thread that waits here.
#[derive(Default)]
struct Waiter {
    notified: HubMutex<bool>,
    changed: HubCondvar,
}

impl Waiter {
    fn notify(&self) {
        *self.notified.lock().unwrap_or_else(|e| e.into_inner()) = true;
        self.changed.notify_one();
    }

    /// Whether it was notified within the time.
    fn wait(&self, deadline: Option<Instant>) -> bool {
        let mut notified = self.notified.lock().unwrap_or_else(|e| e.into_inner());
        while !*notified {
            notified = match deadline {
                None => self
                    .changed
                    .wait(notified)
                    .unwrap_or_else(|e| e.into_inner()),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    let waited = self.changed.wait_timeout(notified, left);
                    waited.unwrap_or_else(|e| e.into_inner()).0
                }
            };
        }
        true
    }
}

/// A place among those who wait. If the wait fails it is given up, so that no notification goes there.
struct Place<'a> {
    condvar: &'a Condvar,
    side: Side<'a>,
    is_taken: bool,
}

enum Side<'a> {
    Here(Arc<Waiter>),
    There(&'a Shared<shared::Condvar>, u64),
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.is_taken {
            return;
        }
        let was_notified = match &self.side {
            Side::Here(waiter) => self.condvar.give_up(waiter),
            // Without an answer the place goes with the session, or has gone with the object.
            Side::There(object, number) => object.give_up(*number).unwrap_or(false),
        };
        if was_notified && let Err(error) = self.condvar.try_notify_one() {
            eprintln!("crucial: a notification could not be passed on: {error}");
        }
    }
}

/// Whether a wait ended because its time was over, as [`std::sync::WaitTimeoutResult`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether the time was over.
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    /// A condition variable for which nobody waits.
    pub const fn new() -> Condvar {
        Condvar {
            hub: HubMutex::new(VecDeque::new()),
            remote: OnceLock::new(),
        }
    }

    #[track_caller]
    fn hub(&self) -> HubGuard<'_, VecDeque<Arc<Waiter>>> {
        statics::refuse_in_worker(self, "Condvar");
        self.hub.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn share(&self) -> &Arc<Remote<shared::Condvar>> {
        let mut hub = self.hub();
        let remote = self
            .remote
            .get_or_init(|| Remote::make(shared::Condvar::new()));
        // They look at their condition, and wait at the object.
        hub.drain(..).for_each(|waiter| waiter.notify());
        remote
    }

    /// Wakes a thread that waits.
    #[track_caller]
    pub fn notify_one(&self) {
        must(self.try_notify_one());
    }

    #[track_caller]
    fn try_notify_one(&self) -> Result<(), Error> {
        let mut hub = self.hub();
        match self.remote.get() {
            None => hub.pop_front().into_iter().for_each(|w| w.notify()),
            Some(remote) => {
                drop(hub);
                remote.object().notify_one()?;
            }
        }
        Ok(())
    }

    /// Gives a place here up; whether it was notified.
    fn give_up(&self, waiter: &Arc<Waiter>) -> bool {
        let mut hub = self.hub();
        let place = hub.iter().position(|other| Arc::ptr_eq(other, waiter));
        place.is_none_or(|place| hub.remove(place).is_none())
    }

    /// Wakes all threads that wait.
    #[track_caller]
    pub fn notify_all(&self) {
        let mut hub = self.hub();
        match self.remote.get() {
            None => hub.drain(..).for_each(|waiter| waiter.notify()),
            Some(remote) => {
                drop(hub);
                must(remote.object().notify_all());
            }
        }
    }

    /// A place, before the mutex is unlocked.
    #[track_caller]
    fn place(&self, with_shared: bool) -> Place<'_> {
        if let Some(refusal) = held::refusal_to_wait("a condition variable") {
            panic!("{refusal}");
        }
        let mut hub = self.hub();
        if self.remote.get().is_none() && !with_shared {
            let waiter = Arc::<Waiter>::default();
            hub.push_back(waiter.clone());
            return self.taken(Side::Here(waiter));
        }
        drop(hub);
        let object = self.share().object();
        self.taken(Side::There(object, must(object.enter())))
    }

    fn taken<'a>(&'a self, side: Side<'a>) -> Place<'a> {
        Place {
            condvar: self,
            side,
            is_taken: true,
        }
    }

    /// Whether the place was notified within the time.
    #[track_caller]
    fn wait_at(&self, mut place: Place<'_>, limit: Option<Duration>) -> bool {
        let notified = match &place.side {
            Side::Here(waiter) => {
                let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
                // Perhaps at the last moment.
                waiter.wait(deadline) || self.give_up(waiter)
            }
            Side::There(object, number) => match limit {
                None => {
                    must(object.notified(*number));
                    true
                }
                Some(limit) => match object.with_timeout(limit).notified(*number) {
                    Err(Error::TimedOut { .. }) => must(object.give_up(*number)),
                    notified => {
                        must(notified);
                        true
                    }
                },
            },
        };
        place.is_taken = false;
        notified
    }

    #[track_caller]
    fn wait_within<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        limit: Option<Duration>,
    ) -> (LockResult<MutexGuard<'a, T>>, bool) {
        let mutex = guard.mutex();
        let place = self.place(guard.is_there());
        drop(guard);
        let notified = self.wait_at(place, limit);
        (mutex.lock(), notified)
    }

    /// Unlocks the mutex, waits for a notification, and locks the mutex again. There can be spurious wake-ups.
    ///
    /// # Errors
    ///
    /// The guard, if the mutex is poisoned.
    #[track_caller]
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.wait_within(guard, None).0
    }

    /// Waits while `condition` holds.
    ///
    /// # Errors
    ///
    /// The guard, if the mutex is poisoned.
    #[track_caller]
    pub fn wait_while<'a, T, F>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: F,
    ) -> LockResult<MutexGuard<'a, T>>
    where
        F: FnMut(&mut T) -> bool,
    {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// As [`wait`](Condvar::wait), for no longer than `limit`.
    ///
    /// # Errors
    ///
    /// The guard, if the mutex is poisoned.
    #[track_caller]
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        limit: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let (locked, notified) = self.wait_within(guard, Some(limit));
        let result = WaitTimeoutResult(!notified);
        match locked {
            Ok(guard) => Ok((guard, result)),
            Err(poisoned) => Err(PoisonError::new((poisoned.into_inner(), result))),
        }
    }

    /// Waits while `condition` holds, for no longer than `limit`.
    ///
    /// # Errors
    ///
    /// The guard, if the mutex is poisoned.
    #[track_caller]
    pub fn wait_timeout_while<'a, T, F>(
        &self,
        mut guard: MutexGuard<'a, T>,
        limit: Duration,
        mut condition: F,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)>
    where
        F: FnMut(&mut T) -> bool,
    {
        let begin = Instant::now();
        loop {
            if !condition(&mut guard) {
                return Ok((guard, WaitTimeoutResult(false)));
            }
            let Some(left) = limit.checked_sub(begin.elapsed()) else {
                return Ok((guard, WaitTimeoutResult(true)));
            };
            guard = self.wait_timeout(guard, left)?.0;
        }
    }
}

impl Default for Condvar {
    fn default() -> Condvar {
        Condvar::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}

/// Shares it, and encodes the handle.
impl Serialize for Condvar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.share().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Condvar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Condvar, D::Error> {
        Ok(Condvar {
            hub: HubMutex::default(),
            remote: OnceLock::from(Remote::deserialize(deserializer)?),
        })
    }
}
