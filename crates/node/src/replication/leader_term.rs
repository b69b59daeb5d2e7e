//! The term in which a server leads the control group: which leases it grants, and which servers it proposes to expire.
//!
//! An expired server has no lease any more at the time at which its expiry is committed. The reasons are:
//!
//! - A lease begins when its heartbeat was sent, and the leader records the heartbeat's arrival
//!   ([`LeaderTerm::record_heartbeat`]) before it finds out whether it still leads ([`LeaderTerm::answer`]). The leaders of
//!   later terms therefore begin after the start of the lease.
//! - A leader proposes the expiry of an incarnation only after it has led, and has received no heartbeat of the
//!   incarnation, for longer than a lease and the clocks' drift. The log entry has an effect in this leader's term only
//!   ([`Decision::in_term`]), so that no other server was the leader meanwhile.
//! - After the proposal the leader grants no lease to the incarnation, even if a heartbeat arrives before the entry is
//!   committed (`pending_expiry`).
//! - The proposals of earlier leaders are committed or lost before the leader grants its first lease
//!   ([`LeaderTerm::first_entry_committed`]).
//!
//! A silent server that responds to what the leader sends is spared for a while: it lives, and it may be the leader that is
//! too busy to read. It has no lease meanwhile.

use std::collections::BTreeMap;

use crate::replication::mutant::Mutant;
use crate::replication::{Command, Damping, FailureDetector, Grant, Incarnation, NodeId, View};

/// A server in one of its incarnations.
pub type Instance = (NodeId, Incarnation);

/// The content of a log entry: commands that are committed together.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Decision {
    /// The only term in which the commands have an effect; `None`: any term. An expiry rests on the knowledge of one
    /// term's leader, which the next leader does not have.
    pub term: Option<u64>,
    /// The commands.
    pub commands: Vec<Command>,
}

impl Decision {
    /// The commands that have an effect if the entry's term is this one.
    pub fn in_term(self, term: u64) -> Vec<Command> {
        match self.term.is_none_or(|wanted| wanted == term) {
            true => self.commands,
            false => Vec::new(),
        }
    }
}

/// A heartbeat that a leader has recorded, and will answer when it knows whether it still leads.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    /// The term of the leader that recorded it.
    term: u64,
    instance: Instance,
    sent_ms: u64,
}

/// What a leader answers to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeartbeatAnswer {
    /// A lease.
    Granted(Grant),
    /// The incarnation is no member by the newest view.
    NoMember,
    /// This server does not lead, or does not know all decisions of earlier leaders yet.
    NotLeader,
}

/// Times of a leader, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct LeaderTiming {
    /// After this time without a heartbeat a server has no lease: a lease, and what clocks may drift meanwhile.
    pub wait_ms: u64,
    /// After this time in which it could not make sure that it leads, a leader was cut off or stopped, and may have missed
    /// heartbeats.
    pub lost_ms: u64,
}

/// A leader's knowledge in one term, from its election on.
#[derive(Debug)]
pub struct LeaderTerm {
    term: u64,
    timing: LeaderTiming,
    detector: FailureDetector,
    /// The pauses of servers that were expired again and again.
    damping: Damping,
    /// An entry of this term is committed, and therefore all entries before it.
    has_committed: bool,
    /// When this server last knew that it leads.
    confirmed_ms: u64,
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
    /// A leader begins; nothing is known of what earlier leaders have granted and proposed.
    pub fn new(term: u64, timing: LeaderTiming, now_ms: u64) -> LeaderTerm {
        LeaderTerm {
            term,
            timing,
            detector: FailureDetector::new(now_ms),
            damping: Damping::default(),
            has_committed: false,
            confirmed_ms: now_ms,
            pending_expiry: BTreeMap::new(),
            heartbeats_ms: BTreeMap::new(),
            unheard_ms: BTreeMap::new(),
        }
    }

    /// The number of the term.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Whether an entry of this term is committed.
    pub fn has_committed(&self) -> bool {
        self.has_committed
    }

    /// Records a heartbeat, before it is found out whether this server still leads. `None`: the expiry of the incarnation
    /// is proposed, and it gets no lease any more.
    pub fn record_heartbeat(
        &mut self,
        instance: Instance,
        sent_ms: u64,
        now_ms: u64,
    ) -> Option<Heartbeat> {
        let is_expiring = self.pending_expiry.contains_key(&instance);
        if is_expiring && !Mutant::GrantsWhileExpiring.is_planted() {
            return None;
        }
        self.detector.hear(instance.0, instance.1, now_ms);
        self.heartbeats_ms.insert(instance.0, now_ms);
        self.unheard_ms.remove(&instance);
        Some(Heartbeat {
            term: self.term,
            instance,
            sent_ms,
        })
    }

    /// The answer to a recorded heartbeat. `leads`: this server led at some time after it was recorded; `view`: the newest
    /// one that it knew then.
    pub fn answer(&self, heartbeat: Heartbeat, leads: bool, view: &View) -> HeartbeatAnswer {
        let leads = leads || Mutant::GrantsUnconfirmed.is_planted();
        let has_committed = self.has_committed || Mutant::GrantsBeforeFirstCommit.is_planted();
        if !leads || !has_committed || heartbeat.term != self.term {
            return HeartbeatAnswer::NotLeader;
        }
        let (node, incarnation) = heartbeat.instance;
        if !view.has(node, incarnation) {
            return HeartbeatAnswer::NoMember;
        }
        HeartbeatAnswer::Granted(Grant {
            sent_ms: heartbeat.sent_ms,
            view: view.version,
        })
    }

    /// An entry of a term is committed, and known to be. One that this leader has written in its own term makes sure that
    /// it knows all decisions of earlier leaders. (A leader that was restarted may lead again in the same term, without its
    /// knowledge of the entries that were committed before.)
    pub fn first_entry_committed(&mut self, term: u64, now_ms: u64) {
        if self.term == term && !self.has_committed {
            self.has_committed = true;
            // No server was granted a lease in this term so far.
            self.detector = FailureDetector::new(now_ms);
        }
    }

    /// One round of the leader's work: what to propose in this term. `leads`: this server led at some time after the round
    /// began. `responds` says of an incarnation whether it has responded to this leader within the wait for heartbeats.
    pub fn round(
        &mut self,
        leads: bool,
        view: &View,
        now_ms: u64,
        responds: impl Fn(Instance) -> bool,
    ) -> Vec<Command> {
        if !leads {
            return Vec::new();
        }
        let was_lost = now_ms.saturating_sub(self.confirmed_ms) > self.timing.lost_ms;
        self.confirmed_ms = now_ms;
        if !self.has_committed {
            return Vec::new();
        }
        if was_lost {
            // Every member counts as heard now.
            self.detector = FailureDetector::new(now_ms);
            return Vec::new();
        }
        let mut commands = self.expired(view, now_ms, responds);
        commands.extend(self.damping.due(view, now_ms));
        commands
    }

    /// The expiries to propose. An expiry that was proposed long ago and is not committed is proposed again.
    fn expired(
        &mut self,
        view: &View,
        now_ms: u64,
        responds: impl Fn(Instance) -> bool,
    ) -> Vec<Command> {
        let wait_ms = self.timing.wait_ms;
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
    use crate::replication::{Control, EXPIRIES_FREE};

    const INSTANCE: Instance = (NodeId(1), Incarnation(1));

    const TIMING: LeaderTiming = LeaderTiming {
        wait_ms: 1000,
        lost_ms: 20_000,
    };

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

    /// A leader that has committed its first entry.
    fn leader() -> LeaderTerm {
        let mut term = LeaderTerm::new(1, TIMING, 0);
        term.first_entry_committed(1, 0);
        term
    }

    fn round(term: &mut LeaderTerm, view: &View, now_ms: u64) -> Vec<Command> {
        term.round(true, view, now_ms, |_| false)
    }

    fn expire((node, incarnation): Instance) -> Command {
        Command::Expire { node, incarnation }
    }

    #[test]
    fn a_lease_needs_a_leader_that_leads_and_knows_what_was_decided() {
        let view = view();
        let mut term = LeaderTerm::new(2, TIMING, 0);
        let heartbeat = term.record_heartbeat(INSTANCE, 77, 10).unwrap();
        assert_eq!(
            term.answer(heartbeat, true, &view),
            HeartbeatAnswer::NotLeader
        );
        // An entry of an earlier term says nothing.
        term.first_entry_committed(1, 20);
        assert!(!term.has_committed());
        term.first_entry_committed(2, 20);
        assert_eq!(
            term.answer(heartbeat, false, &view),
            HeartbeatAnswer::NotLeader
        );
        let grant = Grant {
            sent_ms: 77,
            view: view.version,
        };
        assert_eq!(
            term.answer(heartbeat, true, &view),
            HeartbeatAnswer::Granted(grant)
        );
        // A heartbeat that another term's leader recorded.
        let mut next = LeaderTerm::new(3, TIMING, 30);
        next.first_entry_committed(3, 30);
        assert_eq!(
            next.answer(heartbeat, true, &view),
            HeartbeatAnswer::NotLeader
        );
        let other = (NodeId(1), Incarnation(2));
        let heartbeat = next.record_heartbeat(other, 78, 40).unwrap();
        assert_eq!(
            next.answer(heartbeat, true, &view),
            HeartbeatAnswer::NoMember
        );
    }

    #[test]
    fn an_incarnation_with_a_pending_expiry_gets_no_lease() {
        let view = view();
        let mut term = leader();
        assert!(term.record_heartbeat(INSTANCE, 0, 10).is_some());
        assert_eq!(round(&mut term, &view, 1010), []);
        assert_eq!(round(&mut term, &view, 1011), [expire(INSTANCE)]);
        // The heartbeat was only late, but the expiry may be committed at any time.
        assert!(term.record_heartbeat(INSTANCE, 0, 1012).is_none());
        // The expiry is proposed again after a while, in spite of the heartbeat.
        assert_eq!(round(&mut term, &view, 1013), []);
        assert_eq!(round(&mut term, &view, 2012), [expire(INSTANCE)]);
        // Also when the leader was away.
        assert_eq!(round(&mut term, &view, 30_000), []);
        assert!(term.record_heartbeat(INSTANCE, 0, 30_001).is_none());
    }

    #[test]
    fn a_leader_that_was_away_expires_no_server_before_a_whole_lease() {
        let view = view();
        let mut term = leader();
        assert!(term.record_heartbeat(INSTANCE, 0, 0).is_some());
        // Nor does one that does not know whether it leads.
        assert_eq!(term.round(false, &view, 2000, |_| false), []);
        assert_eq!(round(&mut term, &view, 25_000), []);
        assert_eq!(round(&mut term, &view, 25_001), []);
        assert_eq!(round(&mut term, &view, 26_001), []);
        assert_eq!(round(&mut term, &view, 26_002), [expire(INSTANCE)]);
    }

    #[test]
    fn a_server_that_was_expired_again_and_again_waits_for_the_leaders_clock() {
        let (node, mut incarnation) = INSTANCE;
        let mut control = control();
        for _ in 0..=EXPIRIES_FREE {
            control.apply(&expire((node, incarnation))).unwrap();
            incarnation.0 += 1;
            control.apply(&join((node, incarnation))).unwrap();
        }
        let mut term = leader();
        let end = Command::EndDamping { node, incarnation };
        let mut heard = |now_ms: u64, view: &View| {
            term.record_heartbeat((node, incarnation), 0, now_ms);
            round(&mut term, view, now_ms)
        };
        assert_eq!(heard(500, control.view()), []);
        assert_eq!(heard(2499, control.view()), []);
        assert_eq!(heard(2500, control.view()), std::slice::from_ref(&end));
        // Again after a lease, as long as it is not decided.
        assert_eq!(heard(3499, control.view()), []);
        assert_eq!(heard(3500, control.view()), std::slice::from_ref(&end));
        control.apply(&end).unwrap();
        assert_eq!(heard(9000, control.view()), []);
    }

    #[test]
    fn a_server_that_responds_is_not_expired_because_nothing_of_it_is_read() {
        let view = view();
        let mut term = leader();
        assert!(term.record_heartbeat(INSTANCE, 0, 0).is_some());
        // The server is silent, but responds.
        for now in [1001, 2000, 9001] {
            assert_eq!(term.round(true, &view, now, |_| true), []);
        }
        // A heartbeat ends that.
        assert!(term.record_heartbeat(INSTANCE, 0, 9002).is_some());
        assert_eq!(term.round(true, &view, 17_000, |_| true), []);
        // Somebody else has to serve at last.
        assert_eq!(term.round(true, &view, 25_001, |_| true).len(), 1);
        // Without a response it is dead.
        let mut term = leader();
        assert!(term.record_heartbeat(INSTANCE, 0, 0).is_some());
        assert_eq!(round(&mut term, &view, 1001), [expire(INSTANCE)]);
    }
}
