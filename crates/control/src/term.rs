//! The term in which this server leads the control group.

use std::collections::BTreeMap;

use crucial_node::replication::{Command, FailureDetector, Incarnation, NodeId, View};

/// One life of a server.
pub(crate) type Life = (NodeId, Incarnation);

/// A leader's time, from an election on.
pub(crate) struct Reign {
    pub term: u64,
    roll: FailureDetector,
    /// An entry of this term is decided, and so are all before it.
    pub is_settled: bool,
    /// Lives whose end was proposed, and when.
    condemned: BTreeMap<Life, u64>,
    /// When each node was heard last.
    heard_ms: BTreeMap<NodeId, u64>,
}

impl Reign {
    pub fn new(term: u64, now_ms: u64) -> Reign {
        Reign {
            term,
            roll: FailureDetector::new(now_ms),
            is_settled: false,
            condemned: BTreeMap::new(),
            heard_ms: BTreeMap::new(),
        }
    }

    /// A heartbeat came; whether it may be answered with a lease.
    pub fn hear(&mut self, life: Life, now_ms: u64) -> bool {
        if self.condemned.contains_key(&life) {
            return false;
        }
        self.roll.hear(life.0, life.1, now_ms);
        self.heard_ms.insert(life.0, now_ms);
        true
    }

    /// The lives whose end is to be proposed; again those for which that was done long ago.
    pub fn expired(&mut self, view: &View, now_ms: u64, wait_ms: u64) -> Vec<Command> {
        self.condemned
            .retain(|(node, incarnation), _| view.has(*node, *incarnation));
        self.heard_ms
            .retain(|node, _| view.members.contains_key(node));
        let mut expired = self.roll.expired(view, now_ms, wait_ms);
        expired.retain(|command| {
            let Command::Expire { node, incarnation } = command else {
                return false;
            };
            let proposed = self.condemned.get(&(*node, *incarnation));
            let is_new = proposed.is_none_or(|proposed| now_ms.saturating_sub(*proposed) > wait_ms);
            if is_new {
                self.condemned.insert((*node, *incarnation), now_ms);
            }
            is_new
        });
        expired
    }

    /// Nothing could be heard for a while: as if all had just been.
    pub fn begin_again(&mut self, now_ms: u64) {
        self.roll = FailureDetector::new(now_ms);
    }

    /// Whether a node was heard not longer ago.
    pub fn has_heard(&self, node: NodeId, now_ms: u64, within_ms: u64) -> bool {
        let heard = self.heard_ms.get(&node);
        heard.is_some_and(|heard| now_ms.saturating_sub(*heard) <= within_ms)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crucial_node::replication::Control;

    const LIFE: Life = (NodeId(1), Incarnation(1));

    fn view() -> Arc<View> {
        let mut control = Control::new(4);
        let join = Command::Join {
            node: LIFE.0,
            incarnation: LIFE.1,
            address: String::new(),
            lease_ms: 1000,
        };
        control.apply(&join).unwrap();
        control.view().clone()
    }

    #[test]
    fn a_life_whose_end_was_proposed_gets_no_lease() {
        let view = view();
        let mut reign = Reign::new(1, 0);
        assert!(reign.hear(LIFE, 10));
        assert_eq!(reign.expired(&view, 1010, 1000), []);
        assert_eq!(reign.expired(&view, 1011, 1000).len(), 1);
        // It was only late, and its end may be decided any time.
        assert!(!reign.hear(LIFE, 1012));
        // It is proposed again, but not at once, whatever is heard.
        assert_eq!(reign.expired(&view, 1013, 1000), []);
        assert_eq!(reign.expired(&view, 2012, 1000).len(), 1);
        reign.begin_again(2013);
        assert!(!reign.hear(LIFE, 2014));
    }

    #[test]
    fn who_was_away_takes_nobody_for_dead_before_a_whole_lease() {
        let view = view();
        let mut reign = Reign::new(1, 0);
        assert!(reign.hear(LIFE, 0));
        reign.begin_again(5000);
        assert_eq!(reign.expired(&view, 5000, 1000), []);
        assert_eq!(reign.expired(&view, 6000, 1000), []);
        assert_eq!(reign.expired(&view, 6001, 1000).len(), 1);
    }
}
