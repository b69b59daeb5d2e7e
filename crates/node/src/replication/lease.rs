//! Leases: for how long a node may serve on its own clock, and from when the control group's leader can be certain, on
//! another clock, that it does not.

use std::collections::BTreeMap;

use crate::replication::mutant::Mutant;
use crate::replication::{Command, Incarnation, NodeId, View, ViewVersion};

/// The answer to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Grant {
    /// When the heartbeat was sent, by the node's clock, in milliseconds.
    pub sent_ms: u64,
    /// The newest view. It is no lease for who does not have that.
    pub view: ViewVersion,
}

/// A node's lease. All times are in milliseconds of its own clock.
#[derive(Clone, Debug, Default)]
pub struct Lease {
    until_ms: u64,
    /// Of the newest grant.
    view: ViewVersion,
}

impl Lease {
    /// A grant came; a lease lasts `lease_ms`.
    pub fn renew(&mut self, grant: Grant, lease_ms: u64) {
        self.until_ms = self.until_ms.max(grant.sent_ms + lease_ms);
        self.view = self.view.max(grant.view);
    }

    /// The view of the newest grant: with an older one the node may not serve.
    pub fn view(&self) -> ViewVersion {
        self.view
    }

    /// Until when the node may serve.
    pub fn until_ms(&self) -> u64 {
        self.until_ms
    }
}

/// The leader's side: who was heard when, by the leader's clock. A new leader begins with a new one.
#[derive(Clone, Debug)]
pub struct FailureDetector {
    /// When this leader began: before, nodes may have been given leases by others.
    began_ms: u64,
    heard_ms: BTreeMap<(NodeId, Incarnation), u64>,
}

impl FailureDetector {
    /// A leader begins.
    pub fn new(now_ms: u64) -> FailureDetector {
        FailureDetector {
            began_ms: now_ms,
            heard_ms: BTreeMap::new(),
        }
    }

    /// A heartbeat came, at a time before the leader has made sure that it is the leader.
    pub fn hear(&mut self, node: NodeId, incarnation: Incarnation, now_ms: u64) {
        self.heard_ms.insert((node, incarnation), now_ms);
    }

    /// The nodes whose leases have ended: `wait_ms` is a lease and what clocks may drift meanwhile.
    pub fn expired(&mut self, view: &View, now_ms: u64, wait_ms: u64) -> Vec<Command> {
        self.heard_ms
            .retain(|(node, incarnation), _| view.has(*node, *incarnation));
        let wait_ms = if Mutant::NoLeaseWait.is_planted() {
            wait_ms / 4
        } else {
            wait_ms
        };
        let began_ms = self.began_ms;
        let heard_ms = &mut self.heard_ms;
        let mut is_expired = |node: NodeId, incarnation: Incarnation| {
            // One that has become a member just now has a whole lease to be heard for the first time.
            let last = heard_ms.entry((node, incarnation)).or_insert(now_ms);
            now_ms.saturating_sub((*last).max(began_ms)) > wait_ms
        };
        let members = view.members.iter();
        members
            .filter(|(node, member)| is_expired(**node, member.incarnation))
            .map(|(node, member)| Command::Expire {
                node: *node,
                incarnation: member.incarnation,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_from_when_it_was_asked_for() {
        let mut lease = Lease::default();
        let grant = Grant {
            sent_ms: 100,
            view: ViewVersion(3),
        };
        lease.renew(grant, 1000);
        assert_eq!((lease.until_ms(), lease.view()), (1100, ViewVersion(3)));
    }

    #[test]
    fn a_new_leader_waits_as_if_it_had_just_heard_of_all() {
        let mut view = View::new(1);
        let member = crate::replication::Member {
            incarnation: Incarnation(1),
            address: String::new(),
            leaving: false,
        };
        view.members.insert(NodeId(1), member);
        let mut roll = FailureDetector::new(10_000);
        assert_eq!(roll.expired(&view, 10_000, 1000), []);
        assert_eq!(roll.expired(&view, 11_000, 1000), []);
        assert_eq!(roll.expired(&view, 11_001, 1000).len(), 1);
        roll.hear(NodeId(1), Incarnation(1), 11_001);
        assert_eq!(roll.expired(&view, 12_001, 1000), []);
    }
}
