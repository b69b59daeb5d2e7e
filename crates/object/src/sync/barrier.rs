//! A reusable barrier (paper §3.1, Listing 2).

use std::task::Poll;

use serde::{Deserialize, Serialize};

use crate::valid::is_new;
use crate::{Error, Result, Wake, shared};

/// Lets a number of threads wait for each other, again and again, as [`std::sync::Barrier`].
///
/// [`wait`](Barrier::wait) is one message per party. A party whose wait is cancelled, times out
/// or dies (its process ended and its session's lease lapsed) before the round is complete has not
/// arrived: another can take its place. A cloud thread that is retried takes the place of its earlier
/// attempt at once, so that it is counted once.
///
/// ```
/// use crucial::Shared;
/// use crucial::sync::Barrier;
///
/// let barrier = Shared::new(Barrier::new(2))?;
/// let other = barrier.deferred().wait();
/// let leads = [barrier.wait()?.is_leader(), other.wait()?.is_leader()];
/// assert_eq!(leads.iter().filter(|leads| **leads).count(), 1);
/// # Ok::<(), crucial::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[doc(alias = "CyclicBarrier")]
pub struct Barrier {
    parties: u64,
    arrived: u64,
    round: u64,
    /// The last round that was ended by a reset.
    broken: Option<u64>,
}

/// Whether this party leads its round, as [`std::sync::BarrierWaitResult`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BarrierWaitResult {
    leader: bool,
}

impl BarrierWaitResult {
    /// True for exactly one party of each round: the last to arrive.
    pub fn is_leader(&self) -> bool {
        self.leader
    }
}

impl Barrier {
    /// A barrier for `parties` threads. With 0 or 1, nobody waits, as in `std`.
    pub const fn new(parties: usize) -> Barrier {
        Barrier {
            parties: parties as u64,
            arrived: 0,
            round: 0,
            broken: None,
        }
    }

    fn leave(&mut self, round: u64) {
        if round == self.round {
            self.arrived -= 1;
        }
    }
}

#[shared(name = "crucial::Barrier", crate = crate)]
impl Barrier {
    /// Nobody has arrived.
    #[valid]
    fn valid(&self) -> Result<(), String> {
        is_new(self.arrived == 0, "nobody who has arrived")?;
        is_new(self.round == 0 && self.broken.is_none(), "round 0")
    }

    /// Blocks until all parties of the round have arrived.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] if the barrier is [reset](Barrier::reset) meanwhile.
    #[doc(alias = "await")]
    #[fallible]
    pub fn wait(
        &mut self,
        #[ticket(cancel = Self::leave)] arrival: &mut Option<u64>,
    ) -> Poll<Result<BarrierWaitResult>> {
        match *arrival {
            None => {
                self.arrived += 1;
                if self.arrived >= self.parties {
                    self.arrived = 0;
                    self.round += 1;
                    return Poll::Ready(Ok(BarrierWaitResult { leader: true }));
                }
                *arrival = Some(self.round);
                Poll::Pending
            }
            Some(round) if round == self.round => Poll::Pending,
            // All who waited were polled when their round was broken, so one such round is enough.
            Some(round) if Some(round) == self.broken => Poll::Ready(Err(Error::Broken {
                what: "crucial::Barrier".to_owned(),
            })),
            Some(_) => Poll::Ready(Ok(BarrierWaitResult { leader: false })),
        }
    }

    /// Ends the present round: those who wait in it get [`Error::Broken`]. The next round begins anew.
    pub fn reset(&mut self) {
        self.broken = Some(self.round);
        self.round += 1;
        self.arrived = 0;
    }

    /// The number of parties.
    #[doc(alias = "getParties")]
    pub fn parties(&self) -> u64 {
        self.parties
    }

    /// How many wait now.
    #[doc(alias = "getNumberWaiting")]
    pub fn waiting(&self) -> u64 {
        self.arrived
    }

    /// An arrival wakes nobody; the last one wakes all.
    #[wake]
    fn wake(&self) -> Wake {
        if self.arrived == 0 {
            Wake::All
        } else {
            Wake::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_party_that_leaves_can_be_replaced() {
        let mut barrier = Barrier::new(2);
        let (mut first, mut second, mut third) = (None, None, None);
        assert!(barrier.wait(&mut first).is_pending());
        barrier.leave(first.unwrap());
        assert!(barrier.wait(&mut second).is_pending());
        assert_eq!(
            barrier.wait(&mut third),
            Poll::Ready(Ok(BarrierWaitResult { leader: true }))
        );
        assert_eq!(
            barrier.wait(&mut second),
            Poll::Ready(Ok(BarrierWaitResult { leader: false }))
        );
        // Too late to leave: the round is over.
        barrier.leave(second.unwrap());
        assert_eq!(barrier.waiting(), 0);
    }
}
