//! Faults of the control group's leaders.

use crucial_node::replication::NodeId;
use rand::Rng;

use crate::control::LeaderEvent;
use crate::event::Event;
use crate::events::MS;
use crate::fault::{Fault, Kind};
use crate::places::VOTERS;
use crate::process::LEASE_MS;
use crate::world::World;

/// An election is over after this time, unless more voters have failed.
const ELECTION_MS: std::ops::Range<u64> = 20..2 * LEASE_MS;

impl World {
    /// The control group gets another leader; the one before may think for a while that it leads.
    pub fn change_leader(
        &mut self,
        number: u64,
        fault: &mut Fault,
        (victim, nodes): (NodeId, &[NodeId]),
        duration_us: u64,
    ) {
        let election_us = match self.random.random_range(0..4) {
            // Most voters have failed, too.
            0 => duration_us.min(4 * LEASE_MS * MS),
            _ => self.random.random_range(ELECTION_MS) * MS,
        };
        self.after(election_us, Event::Elect);
        let Some(term) = self.control.newest() else {
            return;
        };
        let now_us = self.now_us;
        let until_us = self.random.random_range(0..duration_us.max(election_us));
        let Some(leader) = self.control.leader(term) else {
            return;
        };
        let voter = leader.voter;
        match self.random.random_range(0..6) {
            0 | 1 => {
                self.trace(|| format!("fault {number}: the leader of term {term} dies"));
                return self.control.depose(term);
            }
            2 => {
                leader.paused_until = now_us + until_us;
                let ms = until_us / MS;
                self.trace(|| format!("fault {number}: the leader of term {term} pauses, {ms} ms"));
            }
            _ => {
                fault.voter = Some(voter);
                self.trace(|| {
                    format!("fault {number}: the leader of term {term} does not reach the voters")
                });
            }
        }
        // The old leader hears of the new one when it is not cut off any more, or later.
        let later_us = self.random.random_range(1..500) * MS;
        let deposed = Event::Leader(term, LeaderEvent::Deposed);
        self.after(duration_us.max(election_us) + later_us, deposed);
        self.take_sides(fault, voter, (victim, nodes));
    }

    /// Nodes reach the old leader, the other voters, or both. One fault cuts off one node.
    fn take_sides(&mut self, fault: &mut Fault, old: u64, (victim, nodes): (NodeId, &[NodeId])) {
        for node in nodes {
            let may_be_cut = *node == victim || self.kind == Kind::Overlapping;
            let cut_from: Vec<_> = match self.random.random_range(0..3) {
                0 if may_be_cut => vec![old],
                1 if may_be_cut => VOTERS.into_iter().filter(|voter| *voter != old).collect(),
                _ => continue,
            };
            self.trace(|| format!("{node:?} does not reach {cut_from:?}"));
            for voter in cut_from {
                fault.cut_both_ways(node.0, voter);
            }
        }
        if self.random.random() {
            self.part_clients(fault, victim, nodes);
        }
    }

    /// The place of the control group, or of its present leader alone.
    pub fn group_or_leader(&mut self) -> u64 {
        let leader = self.control.newest().filter(|_| self.random.random());
        let leader = leader.and_then(|term| self.control.leader(term));
        leader.map_or(0, |leader| leader.voter)
    }

    /// A leader has proposed that a node has expired: now and then another one is elected before that is decided.
    pub fn on_expiry(&mut self, term: u64) {
        let Some(number) = self.faults.keys().next_back().copied() else {
            return;
        };
        if self.random.random_range(0..6) > 0 || !self.control.is_newest(term) {
            return;
        }
        self.trace(|| format!("fault {number}: another voter is elected"));
        let election_us = self.random.random_range(1..ELECTION_MS.end / 4) * MS;
        self.after(election_us, Event::Elect);
        let deposed_us = election_us + self.random.random_range(1..500) * MS;
        let deposed = Event::Leader(term, LeaderEvent::Deposed);
        self.after(deposed_us, deposed);
    }
}
