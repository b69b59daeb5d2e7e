//! Invariants of a partition, which hold after each step. docs/replication.md names these assertions.

use super::state::{Partition, Phase, Role};
use super::stream::UNASSIGNED;

impl<R> Partition<R> {
    /// Asserts the invariants of this part.
    ///
    /// # Panics
    ///
    /// If one is broken.
    pub fn check(&self) {
        assert!(
            self.released <= self.issued,
            "{:?}: changes were released that were not issued",
            self.id
        );
        assert!(
            self.configured <= self.sealed,
            "{:?}: entries of an older epoch than the configuration's would be taken",
            self.id
        );
        let Role::Primary(primary) = &self.role else {
            return;
        };
        assert_eq!(
            self.rank,
            Some(0),
            "{:?}: a primary has the lowest rank",
            self.id
        );
        assert_eq!(
            primary.epoch, self.sealed,
            "{:?}: a primary of an epoch that has ended",
            self.id
        );
        assert_eq!(
            self.released + primary.pending.len() as u64,
            self.issued,
            "{:?}: a change is neither released nor pending",
            self.id
        );
        assert_eq!(
            primary.assignments.first().map(|first| first.node),
            Some(self.me),
            "{:?}: the first assignment is the primary's",
            self.id
        );
        for backup in &primary.assignments[1..] {
            let stream = primary.streams.get(&backup.node);
            assert!(
                stream.is_some_and(|stream| stream.required && stream.rank == backup.rank),
                "{:?}: the acknowledgements of {backup:?} are not needed",
                self.id
            );
        }
        for (node, stream) in &primary.streams {
            stream.check();
            let is_assigned = primary.assignments.iter().any(|a| a.node == *node);
            let is_joining = primary.join.as_ref().is_some_and(|join| join.node == *node);
            assert!(
                is_assigned || is_joining || stream.rank == UNASSIGNED,
                "{:?}: entries go to {node:?}, which has no part in it",
                self.id
            );
        }
        if let Phase::Collecting { missing, .. } = &primary.phase {
            for node in missing.keys() {
                assert!(
                    primary.streams.contains_key(node),
                    "{:?}: {node:?} is waited for, and gets nothing",
                    self.id
                );
            }
        }
    }
}
