//! Bugs that tests plant, to be found. A build without the feature `mutants` has no such bug.

/// A way to break the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The control group expires a node at once, and does not wait for the end of its lease.
    NoLeaseWait,
    /// A node serves whatever became of its lease.
    NoLeaseCheck,
    /// Results go out before the backups have acknowledged.
    AnswerBeforeBackup,
    /// Reads go out whatever the object's last change waits for.
    ReadUnacknowledged,
    /// Creations and deletions are not part of what a new assignment gets.
    NoRequestsInJoin,
    /// A new primary serves without a look at what the other assignments hold.
    NoReconciliation,
    /// A backup takes entries of an older epoch, too.
    NoSeal,
    /// A joining node gets an assignment when it was sent everything, acknowledged or not.
    AssignBeforeAcknowledgement,
    /// A primary goes on serving while it hands over.
    ServeInHandOver,
    /// Stubs at a new primary stay stubs, so that what was lost can be made anew.
    LostComesBack,
    /// Changes of objects that a joining node was sent do not follow them there.
    NoChangesWhileCopying,
    /// A change is done as often as it comes, in whatever version the object is.
    NoVersionCheck,
    /// Records are dropped while they are needed.
    ForgetTooEarly,
    /// Unacknowledged entries are not sent again in a new epoch.
    NoRepetitionInNewEpoch,
}

#[cfg(feature = "mutants")]
mod planted {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    impl Mutant {
        /// All of them.
        pub const ALL: [Mutant; 14] = [
            Mutant::NoLeaseWait,
            Mutant::NoLeaseCheck,
            Mutant::AnswerBeforeBackup,
            Mutant::ReadUnacknowledged,
            Mutant::NoRequestsInJoin,
            Mutant::NoReconciliation,
            Mutant::NoSeal,
            Mutant::AssignBeforeAcknowledgement,
            Mutant::ServeInHandOver,
            Mutant::LostComesBack,
            Mutant::NoChangesWhileCopying,
            Mutant::NoVersionCheck,
            Mutant::ForgetTooEarly,
            Mutant::NoRepetitionInNewEpoch,
        ];

        /// Whether it is in this thread.
        pub(crate) fn is_planted(self) -> bool {
            PLANTED.get() == Some(self)
        }
    }

    /// Plants a bug in this thread, or none.
    pub fn plant(mutant: Option<Mutant>) {
        PLANTED.set(mutant);
    }
}

#[cfg(feature = "mutants")]
pub use planted::plant;

#[cfg(not(feature = "mutants"))]
impl Mutant {
    pub(crate) fn is_planted(self) -> bool {
        let _ = self;
        false
    }
}
