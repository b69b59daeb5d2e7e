//! A fair counting semaphore.

use std::collections::VecDeque;
use std::task::Poll;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::line::Line;
use crate::valid::is_new;
use crate::{Error, Result, SessionId, Shared, Wake, shared};

/// A number of permits that threads acquire and release.
///
/// It is fair: permits are given in the order in which they were asked for, and a request for many
/// is not overtaken by later requests for few.
///
/// # Who holds a permit
///
/// A permit is held by the process (the session) that acquired it. When that dies, its permits come back once
/// its lease has lapsed, and its requests that wait give up their places. A cloud thread that is retried or
/// cancelled gives back at once what its earlier attempt held.
///
/// Any process may [`release`](Semaphore::release). It releases a permit that it holds itself, if there is
/// one; otherwise the one that has been held for longest, by whomever; and if none is held there is one permit
/// more. So a semaphore can be a signal too, which one side acquires and another releases.
///
/// Where permits are for something to be held, [`Shared::permit`] is safer: a holder that was taken for dead
/// (it was silent for longer than its lease) and comes back too late gives back nothing, since its permit is
/// with somebody else already.
///
/// ```
/// use std::time::Duration;
///
/// use crucial::Shared;
/// use crucial::sync::Semaphore;
///
/// let licences = Shared::new(Semaphore::new(3))?;
/// let permit = licences.permit()?;
/// let more = licences.permits(2)?;
/// assert!(more.token() > permit.token());
/// assert!(!licences.acquire_timeout(Duration::from_millis(1))?);
/// drop(permit);
/// more.release()?; // as dropping, and says whether they were still held
/// assert_eq!(licences.available_permits()?, 3);
/// # Ok::<(), crucial::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Semaphore {
    available: u64,
    line: Line<u64>,
    /// The acquisitions that nobody has given back, oldest first, so by token.
    held: VecDeque<Held>,
    /// The next fencing token.
    token: u64,
}

/// An acquisition, with the permits that are left of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Held {
    token: u64,
    by: SessionId,
    permits: u64,
}

impl Semaphore {
    /// A semaphore with this many permits.
    pub const fn new(permits: u64) -> Semaphore {
        Semaphore {
            available: permits,
            line: Line::new(),
            held: VecDeque::new(),
            token: 1,
        }
    }

    fn leave(&mut self, place: u64) {
        self.line.leave(place);
    }

    fn take(&mut self, permits: u64, caller: SessionId) -> Option<u64> {
        self.available = self.available.checked_sub(permits)?;
        let token = self.token;
        self.token += 1;
        if permits > 0 {
            let by = caller;
            self.held.push_back(Held { token, by, permits });
        }
        Some(token)
    }

    /// Takes up to `count` permits off those in use: the caller's own (newest first), or else anybody's
    /// (oldest first).
    fn give_back(&mut self, mut count: u64, caller: SessionId) {
        let mut take = |held: &mut Held| {
            let given = count.min(held.permits);
            held.permits -= given;
            count -= given;
        };
        let own = self.held.iter_mut().rev().filter(|held| held.by == caller);
        own.for_each(&mut take);
        self.held.iter_mut().for_each(take);
        self.held.retain(|held| held.permits > 0);
    }
}

#[shared(name = "crucial::Semaphore", crate = crate)]
impl Semaphore {
    /// Nobody has a permit or waits for one.
    #[valid]
    fn valid(&self) -> Result<(), String> {
        is_new(self.held.is_empty(), "no holder")?;
        is_new(self.line.is_new(), "nobody who waits")?;
        is_new(self.token == 1, "token 1")
    }

    /// Takes a permit; blocks until there is one. Returns a fencing token: later acquisitions have higher
    /// ones. A pending call that is dropped gives nothing back if it was served already.
    pub fn acquire(
        &mut self,
        #[caller] caller: SessionId,
        #[ticket(cancel = Self::leave)] place: &mut Option<u64>,
    ) -> Poll<u64> {
        self.acquire_many(1, caller, place)
    }

    /// Takes `permits` at once; blocks until there are as many. Returns a fencing token.
    pub fn acquire_many(
        &mut self,
        permits: u64,
        #[caller] caller: SessionId,
        #[ticket(cancel = Self::leave)] place: &mut Option<u64>,
    ) -> Poll<u64> {
        if self.line.is_first(*place)
            && let Some(token) = self.take(permits, caller)
        {
            if let Some(place) = *place {
                self.line.leave(place);
            }
            return Poll::Ready(token);
        }
        self.line.join(place, permits);
        Poll::Pending
    }

    /// Takes `permits` if they are there and nobody waits for some; whether it did.
    pub fn try_acquire_many(&mut self, permits: u64, #[caller] caller: SessionId) -> bool {
        self.line.is_empty() && self.take(permits, caller).is_some()
    }

    /// Takes a permit if there is one and nobody waits for one; whether it did.
    pub fn try_acquire(&mut self, #[caller] caller: SessionId) -> bool {
        self.try_acquire_many(1, caller)
    }

    /// Gives a permit (back).
    pub fn release(&mut self, #[caller] caller: SessionId) {
        self.release_many(1, caller);
    }

    /// Gives `permits` (back).
    pub fn release_many(&mut self, permits: u64, #[caller] caller: SessionId) {
        self.give_back(permits, caller);
        self.available = self.available.saturating_add(permits);
    }

    /// Gives back all that is left of the acquisition with this token.
    ///
    /// [`Error::LockLost`] if nothing is: it was given back, or its holder was taken for dead.
    #[fallible]
    pub fn release_acquired(&mut self, token: u64) -> Result<()> {
        let Ok(index) = self.held.binary_search_by_key(&token, |held| held.token) else {
            return Err(Error::LockLost { token });
        };
        let held = self.held.remove(index);
        let permits = held.map_or(0, |held| held.permits);
        self.available = self.available.saturating_add(permits);
        Ok(())
    }

    /// The permits that are there.
    #[doc(alias = "availablePermits")]
    pub fn available_permits(&self) -> u64 {
        self.available
    }

    /// The permits that are held.
    pub fn held_permits(&self) -> u64 {
        let held = self.held.iter().map(|held| held.permits);
        held.fold(0, u64::saturating_add)
    }

    /// How many threads wait.
    #[doc(alias = "getQueueLength")]
    pub fn waiting(&self) -> u64 {
        self.line.len()
    }

    /// Requests are served in order, so only the first can be next.
    #[wake]
    fn wake(&self) -> Wake {
        match self.line.first() {
            Some(permits) if self.available >= *permits => Wake::First,
            _ => Wake::None,
        }
    }

    /// Its permits come back.
    #[departed]
    fn departed(&mut self, session: SessionId) {
        let own = self.held.iter().filter(|held| held.by == session);
        let permits = own.map(|held| held.permits);
        let permits = permits.fold(0, u64::saturating_add);
        self.held.retain(|held| held.by != session);
        self.available = self.available.saturating_add(permits);
    }
}

impl Shared<Semaphore> {
    /// Takes a permit within `timeout`; whether it did.
    #[doc(alias = "tryAcquire")]
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<bool> {
        match self.with_timeout(timeout).acquire() {
            Ok(_) => Ok(true),
            Err(Error::TimedOut { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes a permit, and gives it back when the guard is dropped. Blocks until there is one.
    pub fn permit(&self) -> Result<SemaphorePermit> {
        self.permits(1)
    }

    /// Takes `permits` at once, and gives them back when the guard is dropped. Blocks until there are as many.
    pub fn permits(&self, permits: u64) -> Result<SemaphorePermit> {
        let token = self.acquire_many(permits)?;
        Ok(SemaphorePermit {
            semaphore: self.clone(),
            token,
            given_back: permits == 0,
        })
    }
}

/// Permits, until it is dropped. See [`Shared::<Semaphore>::permit`](Shared#method.permit).
#[must_use = "the permits go back when this is dropped"]
#[derive(Debug)]
pub struct SemaphorePermit {
    semaphore: Shared<Semaphore>,
    token: u64,
    given_back: bool,
}

impl SemaphorePermit {
    /// The fencing token: higher than that of all permits acquired before.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// Gives the permits back, as dropping does, and says whether they were still held.
    ///
    /// [`Error::LockLost`] if this process was taken for dead meanwhile, so that they have gone back already.
    pub fn release(mut self) -> Result<()> {
        self.given_back = true;
        self.semaphore.release_acquired(self.token)
    }
}

impl Drop for SemaphorePermit {
    fn drop(&mut self) {
        if self.given_back {
            return;
        }
        // If the server cannot be told now, the permits come back with the end of this session.
        if let Err(error) = self.semaphore.release_acquired(self.token) {
            super::report("a permit", &error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: SessionId = SessionId(1);
    const OTHER: SessionId = SessionId(2);

    #[test]
    fn nobody_overtakes() {
        let mut semaphore = Semaphore::new(1);
        let (mut many, mut one) = (None, None);
        assert!(semaphore.acquire_many(2, ME, &mut many).is_pending());
        assert!(semaphore.acquire(ME, &mut one).is_pending());
        assert!(!semaphore.try_acquire(ME));
        assert_eq!(semaphore.wake(), Wake::None);
        semaphore.release(OTHER);
        assert_eq!(semaphore.wake(), Wake::First);
        assert!(semaphore.acquire(ME, &mut one).is_pending());
        assert!(semaphore.acquire_many(2, ME, &mut many).is_ready());
        assert_eq!(semaphore.available_permits(), 0);
        semaphore.leave(one.unwrap());
        semaphore.release(ME);
        assert!(semaphore.try_acquire(ME));
    }

    #[test]
    fn what_the_dead_held_comes_back_once() {
        let mut semaphore = Semaphore::new(5);
        assert!(semaphore.try_acquire_many(2, ME));
        assert!(semaphore.try_acquire_many(2, OTHER));
        // Somebody who holds none releases the oldest.
        semaphore.release(SessionId(3));
        assert_eq!(
            (semaphore.available_permits(), semaphore.held_permits()),
            (2, 3)
        );
        semaphore.departed(ME);
        assert_eq!(
            (semaphore.available_permits(), semaphore.held_permits()),
            (3, 2)
        );
        semaphore.departed(ME);
        semaphore.departed(OTHER);
        assert_eq!(
            (semaphore.available_permits(), semaphore.held_permits()),
            (5, 0)
        );
    }

    #[test]
    fn who_was_taken_for_dead_gives_nothing_back() {
        let mut semaphore = Semaphore::new(2);
        let token = |poll| match poll {
            Poll::Ready(token) => token,
            Poll::Pending => panic!("it waits"),
        };
        let lost = token(semaphore.acquire_many(2, ME, &mut None));
        semaphore.departed(ME);
        let first = token(semaphore.acquire(OTHER, &mut None));
        let second = token(semaphore.acquire(OTHER, &mut None));
        let error = semaphore.release_acquired(lost).unwrap_err();
        assert!(matches!(error, Error::LockLost { token } if token == lost));
        assert_eq!(semaphore.available_permits(), 0);
        semaphore.release_acquired(first).unwrap();
        semaphore.release_acquired(first).unwrap_err();
        semaphore.release_acquired(second).unwrap();
        assert_eq!(semaphore.available_permits(), 2);
    }

    #[test]
    fn a_release_of_what_nobody_holds_is_one_more() {
        let mut semaphore = Semaphore::new(0);
        semaphore.release_many(3, ME);
        assert_eq!(semaphore.available_permits(), 3);
    }
}
