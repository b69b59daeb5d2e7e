//! Planted bugs that only an interleaving of threads shows, to see that the tests of the locks find them. A build
//! without the feature `mutants` has none of them.

/// A way to break the locking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMutant {
    /// The table makes an entry without a second look, under the lock for writing, whether another thread made one.
    NoSecondLook,
    /// The table removes whatever entry has the id, which may be a newer one.
    RemoveAnyEntry,
    /// Between the look whether an object is checked out and the queueing of an event the entry is unlocked.
    QueueUnlocked,
    /// A request does not stay behind older ones that have waited and are being admitted again.
    NewerOvertakes,
    /// What waits once more is taken out while newer requests that have waited are being admitted again.
    RetryOvertakes,
    /// Between the look whether a term goes on and the change in that term the partition is unlocked.
    TermUnlocked,
    /// A call waits though its session has ended meanwhile.
    ParkAfterEnd,
    /// Between the look at the earliest timeout and the addition of another one the timeouts are unlocked.
    WakeUnlocked,
    /// Between the note which routes a welcome has and the attachment of its connection the session is unlocked, and newer
    /// routes count as sent without a connection.
    RoutesUnlocked,
    /// A thread that finds a peer's connection closed leaves the messages for the next connection where they are.
    PeerForgotten,
}

#[cfg(feature = "mutants")]
mod planted {
    use super::LockMutant;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<LockMutant>> = const { Cell::new(None) };
    }

    impl LockMutant {
        /// Whether this bug is planted in this thread.
        pub(crate) fn is_planted(self) -> bool {
            PLANTED.get() == Some(self)
        }

        /// Plants a bug in this thread, which runs all of the scheduler's threads; or none.
        pub fn plant(mutant: Option<LockMutant>) {
            PLANTED.set(mutant);
        }
    }
}

#[cfg(not(feature = "mutants"))]
impl LockMutant {
    pub(crate) fn is_planted(self) -> bool {
        let _ = self;
        false
    }
}
