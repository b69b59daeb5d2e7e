//! A latch.

use std::task::Poll;

use serde::{Deserialize, Serialize};

use crate::{Wake, shared};

/// Holds threads back until it was counted down to zero, once.
///
/// Counting belongs to nobody: a thread that counts down and dies has counted. A thread that dies while it
/// waits is forgotten when its session's lease lapses.
///
/// ```
/// use crucial::Shared;
/// use crucial::sync::Latch;
///
/// let started = Shared::new(Latch::new(2))?;
/// let waits = started.deferred().wait();
/// assert_eq!((started.count_down()?, started.get()?), (1, 1));
/// started.arrive_and_wait()?;
/// waits.wait()?;
/// # Ok::<(), crucial::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[doc(alias = "CountDownLatch")]
pub struct Latch {
    count: u64,
}

impl Latch {
    /// A latch that opens after `count` [`count_down`](Latch::count_down)s; with 0 it is open.
    pub const fn new(count: u64) -> Latch {
        Latch { count }
    }
}

#[shared(name = "crucial::Latch", crate = crate)]
impl Latch {
    /// Counts down by one, and returns what is left. Below zero nothing happens.
    #[doc(alias = "countDown")]
    pub fn count_down(&mut self) -> u64 {
        self.count = self.count.saturating_sub(1);
        self.count
    }

    /// Blocks until the count is zero.
    #[doc(alias = "await")]
    pub fn wait(&self) -> Poll<()> {
        if self.count == 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Counts down by one, and blocks until the count is zero: one message.
    pub fn arrive_and_wait(&mut self, #[ticket] arrived: &mut Option<()>) -> Poll<()> {
        if arrived.replace(()).is_none() {
            self.count_down();
        }
        self.wait()
    }

    /// What is left to count.
    #[doc(alias("getCount", "count"))]
    pub fn get(&self) -> u64 {
        self.count
    }

    /// Only the last count wakes anybody.
    #[wake]
    fn wake(&self) -> Wake {
        if self.count == 0 {
            Wake::All
        } else {
            Wake::None
        }
    }
}
