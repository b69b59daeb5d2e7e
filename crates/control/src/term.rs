//! The term in which this server leads the control group.

use std::collections::BTreeMap;

use crucial_node::replication::{Command, Damping, FailureDetector, Incarnation, NodeId, View};

/// A server in one of its incarnations.
pub(crate) type Instance = (NodeId, Incarnation);

/// A leader's knowledge in one term, from its election on.
pub(crate) struct LeaderTerm {
    pub term: u64,
    detector: FailureDetector,
    /// The pauses of servers that were expired again and again.
    damping: Damping,
    /// An entry of this term is committed, and therefore all entries before it.
    pub has_committed: bool,
    /// The incarnations whose expiry was proposed, with the time of the proposal.
    pending_expiry: BTreeMap<Instance, u64>,
    /// The time of each node's last heartbeat.
    heartbeats_ms: BTreeMap<NodeId, u64>,
    /// The silent incarnations that respond to this leader's own messages, since when. They live, and it is this server that
    /// does not read what they send, or their way to it that is interrupted.
    unheard_ms: BTreeMap<Instance, u64>,
}

/// For how many times the wait for a heartbeat a silent server is spared because it responds. A server that cannot reach the
/// leader for longer has had no lease for as long, and somebody else has to serve.
const UNHEARD_WAITS_MAX: u64 = 8;

impl LeaderTerm {
    pub fn new(term: u64, now_ms: u64) -> LeaderTerm {
        LeaderTerm {
            term,
            detector: FailureDetector::new(now_ms),
            damping: Damping::default(),
            has_committed: false,
            pending_expiry: BTreeMap::new(),
            heartbeats_ms: BTreeMap::new(),
            unheard_ms: BTreeMap::new(),
        }
    }

    /// Records a heartbeat, and returns whether the leader may grant a lease in response.
    pub fn record_heartbeat(&mut self, instance: Instance, now_ms: u64) -> bool {
        if self.pending_expiry.contains_key(&instance) {
            return false;
        }
        self.detector.hear(instance.0, instance.1, now_ms);
        self.heartbeats_ms.insert(instance.0, now_ms);
        self.unheard_ms.remove(&instance);
        true
    }

    /// The expiries to propose. An expiry that was proposed long ago and is not committed is proposed again. `responds` says
    /// of an incarnation whether it has responded to this leader within `wait_ms`.
    pub fn expired(
        &mut self,
        view: &View,
        (now_ms, wait_ms): (u64, u64),
        responds: impl Fn(Instance) -> bool,
    ) -> Vec<Command> {
        self.unheard_ms
            .retain(|(node, incarnation), _| view.has(*node, *incarnation));
        self.pending_expiry
            .retain(|(node, incarnation), _| view.has(*node, *incarnation));
        self.heartbeats_ms
            .retain(|node, _| view.members.contains_key(node));
        let mut expired = self.detector.expired(view, now_ms, wait_ms);
        expired.retain(|command| {
            let Command::Expire { node, incarnation } = command else {
                return false;
            };
            let instance = (*node, *incarnation);
            let proposed = self.pending_expiry.get(&instance);
            if proposed.is_none() && responds(instance) {
                let since = *self.unheard_ms.entry(instance).or_insert(now_ms);
                if now_ms.saturating_sub(since) <= UNHEARD_WAITS_MAX * wait_ms {
                    return false;
                }
            }
            let is_new = proposed.is_none_or(|proposed| now_ms.saturating_sub(*proposed) > wait_ms);
            if is_new {
                self.pending_expiry.insert(instance, now_ms);
            }
            is_new
        });
        expired
    }

    /// The commands to propose because the pause of a server that was expired again and again is over.
    pub fn end_pauses(&mut self, view: &View, now_ms: u64) -> Vec<Command> {
        self.damping.due(view, now_ms)
    }

    /// Restarts the failure detector after a time in which the leader could not receive heartbeats: every member counts
    /// as heard now.
    pub fn restart_detector(&mut self, now_ms: u64) {
        self.detector = FailureDetector::new(now_ms);
    }

    /// Whether the node sent a heartbeat within the last `within_ms`.
    pub fn was_heard(&self, node: NodeId, now_ms: u64, within_ms: u64) -> bool {
        let heard = self.heartbeats_ms.get(&node);
        heard.is_some_and(|heard| now_ms.saturating_sub(*heard) <= within_ms)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crucial_node::replication::{Control, EXPIRIES_FREE};

    const INSTANCE: Instance = (NodeId(1), Incarnation(1));

    fn join((node, incarnation): Instance) -> Command {
        Command::Join {
            node,
            incarnation,
            address: String::new(),
            lease_ms: 1000,
        }
    }

    fn control() -> Control {
        let mut control = Control::new(4);
        control.apply(&join(INSTANCE)).unwrap();
        control
    }

    fn view() -> Arc<View> {
        control().view().clone()
    }

    #[test]
    fn an_incarnation_with_a_pending_expiry_gets_no_lease() {
        let view = view();
        let mut term = LeaderTerm::new(1, 0);
        assert!(term.record_heartbeat(INSTANCE, 10));
        assert_eq!(term.expired(&view, (1010, 1000), |_| false), []);
        assert_eq!(term.expired(&view, (1011, 1000), |_| false).len(), 1);
        // The heartbeat was only late, but the expiry may be committed at any time.
        assert!(!term.record_heartbeat(INSTANCE, 1012));
        // The expiry is proposed again after a while, in spite of the heartbeat.
        assert_eq!(term.expired(&view, (1013, 1000), |_| false), []);
        assert_eq!(term.expired(&view, (2012, 1000), |_| false).len(), 1);
        term.restart_detector(2013);
        assert!(!term.record_heartbeat(INSTANCE, 2014));
    }

    #[test]
    fn a_leader_that_was_away_expires_no_server_before_a_whole_lease() {
        let view = view();
        let mut term = LeaderTerm::new(1, 0);
        assert!(term.record_heartbeat(INSTANCE, 0));
        term.restart_detector(5000);
        assert_eq!(term.expired(&view, (5000, 1000), |_| false), []);
        assert_eq!(term.expired(&view, (6000, 1000), |_| false), []);
        assert_eq!(term.expired(&view, (6001, 1000), |_| false).len(), 1);
    }

    #[test]
    fn a_server_that_was_expired_again_and_again_waits_for_the_leaders_clock() {
        let (node, mut incarnation) = INSTANCE;
        let mut control = control();
        for _ in 0..=EXPIRIES_FREE {
            let expire = Command::Expire { node, incarnation };
            control.apply(&expire).unwrap();
            incarnation.0 += 1;
            control.apply(&join((node, incarnation))).unwrap();
        }
        let mut term = LeaderTerm::new(1, 0);
        let end = Command::EndDamping { node, incarnation };
        assert_eq!(term.end_pauses(control.view(), 500), []);
        assert_eq!(term.end_pauses(control.view(), 2499), []);
        assert_eq!(
            term.end_pauses(control.view(), 2500),
            std::slice::from_ref(&end)
        );
        // Again after a lease, as long as it is not decided.
        assert_eq!(term.end_pauses(control.view(), 3499), []);
        assert_eq!(
            term.end_pauses(control.view(), 3500),
            std::slice::from_ref(&end)
        );
        control.apply(&end).unwrap();
        assert_eq!(term.end_pauses(control.view(), 9000), []);
    }

    #[test]
    fn a_server_that_responds_is_not_expired_because_nothing_of_it_is_read() {
        let view = view();
        let mut term = LeaderTerm::new(1, 0);
        assert!(term.record_heartbeat(INSTANCE, 0));
        // The server is silent, but responds.
        for now in [1001, 2000, 9001] {
            assert_eq!(term.expired(&view, (now, 1000), |_| true), []);
        }
        // A heartbeat ends that.
        assert!(term.record_heartbeat(INSTANCE, 9002));
        assert_eq!(term.expired(&view, (17_000, 1000), |_| true), []);
        // Somebody else has to serve at last.
        assert_eq!(term.expired(&view, (25_001, 1000), |_| true).len(), 1);
        // Without a response it is dead.
        let mut term = LeaderTerm::new(1, 0);
        assert!(term.record_heartbeat(INSTANCE, 0));
        assert_eq!(term.expired(&view, (1001, 1000), |_| false).len(), 1);
    }
}
