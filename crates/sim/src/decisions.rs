//! What comes to the leaders of the control group, and what they decide.

use crucial_node::replication::{
    Command, Decision, HeartbeatAnswer, Incarnation, NodeId, Refusal, View,
};

use rand::Rng;

use crate::control::{Check, LeaderEvent, LogWrite, ROUND_MS, VOTER_TIMEOUT_MS};
use crate::event::Event;
use crate::events::{Clock, MS};
use crate::fault::Kind;
use crate::model::Loss;
use crate::process::LEASE_MS;
use crate::wire::{Packet, ToControl};
use crate::world::World;

/// After this number of heartbeats without an answer a node tries another leader.
const UNANSWERED_MAX: u32 = 2;

impl World {
    /// Sends something to the leader that a node follows.
    pub fn send_to_leader(&mut self, id: NodeId, packet: ToControl) {
        let terms = self.control.terms();
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        if !terms.contains(&host.leader) || host.unanswered >= UNANSWERED_MAX {
            if terms.is_empty() {
                return;
            }
            host.leader = terms[self.random.random_range(0..terms.len())];
            host.unanswered = 0;
        }
        let term = host.leader;
        if let ToControl::Heartbeat { .. } = packet {
            host.unanswered += 1;
        }
        if let Some(leader) = self.control.leader(term) {
            let voter = leader.voter;
            self.travel(id.0, voter, Event::ToControl(id, term, packet));
        }
    }

    /// A node hears of the leader that it follows; or that this one leads no more.
    pub fn hear_of_leader(&mut self, id: NodeId, packet: &Packet) {
        let newest = self.control.newest();
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        host.unanswered = 0;
        if let Packet::NotLeader(term) = packet
            && *term == host.leader
            && let Some(newest) = newest.filter(|newest| newest > term)
        {
            host.leader = newest;
            self.send_heartbeat(id);
        }
    }

    pub fn at_leader(&mut self, term: u64, from: NodeId, packet: ToControl) {
        match packet {
            ToControl::Heartbeat { .. } => self.on_heartbeat(term, from, &packet),
            ToControl::Command(command) => {
                // A refused proposal is one that came too late.
                self.propose(term, None, command);
            }
        }
    }

    fn on_heartbeat(&mut self, term: u64, from: NodeId, heartbeat: &ToControl) {
        let ToControl::Heartbeat {
            node,
            incarnation,
            sent_ms,
            is_leaving,
        } = *heartbeat
        else {
            return;
        };
        let now_us = self.now_us;
        let Some(leader) = self.control.leader(term) else {
            return;
        };
        let now_ms = leader.now_ms(now_us);
        let recorded = (leader.duties).record_heartbeat((node, incarnation), sent_ms, now_ms);
        let member = leader.view.members.get(&node);
        let member = member.filter(|member| member.incarnation == incarnation);
        let command = match (member.map(|member| member.leaving), is_leaving) {
            (Some(false), true) => Some(Command::Leave { node, incarnation }),
            (None, false) => Some(Command::Join {
                node,
                incarnation,
                address: String::new(),
                lease_ms: LEASE_MS,
            }),
            _ => None,
        };
        if let Some(command) = command {
            self.propose(term, None, command);
        }
        if let Some(heartbeat) = recorded {
            self.check(term, Check::Heartbeat(from, incarnation, heartbeat));
        }
    }

    /// A leader asks the other voters whether it still leads.
    fn check(&mut self, term: u64, check: Check) {
        let delay_us = self.voter_delay_us();
        self.after(delay_us, Event::Leader(term, LeaderEvent::Checked(check)));
    }

    fn voter_delay_us(&mut self) -> u64 {
        match self.random.random_range(0..100) {
            0 => self.random.random_range(5..100) * MS,
            _ => self.random.random_range(100..5_000),
        }
    }

    /// Whether a leader does not reach the other voters.
    fn is_cut_from_voters(&mut self, term: u64) -> bool {
        let voter = self.control.leader(term).map(|leader| leader.voter);
        let mut faults = self.faults.values();
        faults.any(|fault| fault.voter.is_some() && fault.voter == voter)
    }

    pub fn on_leader(&mut self, term: u64, event: LeaderEvent) {
        match event {
            LeaderEvent::Checked(check) => {
                let is_cut = self.is_cut_from_voters(term);
                let leads = !is_cut && self.control.is_newest(term);
                let delay_us = match is_cut {
                    true => VOTER_TIMEOUT_MS * MS,
                    false => self.voter_delay_us(),
                };
                let answer = LeaderEvent::Answer(check, leads);
                self.after(delay_us, Event::Leader(term, answer));
            }
            LeaderEvent::Answer(Check::Heartbeat(node, incarnation, heartbeat), leads) => {
                let Some(leader) = self.control.leader(term) else {
                    return;
                };
                let view = leader.view.clone();
                let packet = match leader.duties.answer(heartbeat, leads, &view) {
                    HeartbeatAnswer::Granted(grant) => Packet::Grant(grant, view),
                    HeartbeatAnswer::NoMember => Packet::View(view),
                    HeartbeatAnswer::NotLeader => Packet::NotLeader(term),
                };
                self.tell_node(term, (node, incarnation), packet);
            }
            LeaderEvent::Answer(Check::Round, leads) => self.round(term, leads),
            LeaderEvent::Written(count) => self.on_written(term, count),
            LeaderEvent::Deposed => {
                if !self.control.is_newest(term) {
                    self.trace(|| format!("control: the leader of term {term} ends"));
                    self.control.depose(term);
                }
            }
        }
    }

    fn tell_node(&mut self, term: u64, (node, incarnation): (NodeId, Incarnation), packet: Packet) {
        if let Some(leader) = self.control.leader(term) {
            let voter = leader.voter;
            self.travel(voter, node.0, Event::ToNode(node, incarnation, packet));
        }
    }

    fn round(&mut self, term: u64, leads: bool) {
        let now_us = self.now_us;
        let Some(leader) = self.control.leader(term) else {
            return;
        };
        let (now_ms, view) = (leader.now_ms(now_us), leader.view.clone());
        for command in leader.duties.round(leads, &view, now_ms, |_| false) {
            self.propose(term, Some(term), command);
        }
    }

    /// A leader takes a command into its log.
    fn propose(&mut self, term: u64, in_term: Option<u64>, command: Command) {
        let is_expiry = matches!(command, Command::Expire { .. });
        let decision = Decision {
            term: in_term,
            commands: vec![command],
        };
        let now_us = self.now_us;
        let write = (self.control).append(term, decision, (&mut self.random, now_us));
        self.write(term, write);
        if is_expiry {
            self.on_expiry(term);
        }
    }

    fn write(&mut self, term: u64, write: Option<LogWrite>) {
        if let Some(write) = write {
            let event = Event::Leader(term, LeaderEvent::Written(write.count));
            self.events.add(write.at_us, event);
        }
    }

    /// Another voter is elected.
    pub fn elect(&mut self) {
        let clock = Clock {
            per_mille: self.rate(),
            offset_ms: self.random.random_range(0..1_000_000),
        };
        let now_us = self.now_us;
        let term = self.control.elect(&mut self.random, clock, now_us);
        self.trace(|| format!("control: term {term} begins"));
        let write = (self.control).write_log(term, (&mut self.random, now_us));
        self.write(term, write);
    }

    fn on_written(&mut self, term: u64, count: u64) {
        if !self.control.is_newest(term) {
            return;
        }
        if self.is_cut_from_voters(term) {
            let event = Event::Leader(term, LeaderEvent::Written(count));
            return self.after(ROUND_MS * MS, event);
        }
        for command in self.control.take_written(term, count, self.now_us) {
            let outcome = self.decide(term, &command);
            if let (
                Command::Join {
                    node, incarnation, ..
                },
                Err(Refusal::Evicted { .. }),
            ) = (command, outcome)
            {
                self.tell_node(term, (node, incarnation), Packet::Evicted);
            }
        }
        self.control.tell(term);
    }

    fn decide(&mut self, term: u64, command: &Command) -> Result<(), Refusal> {
        let old = self.control.view().clone();
        let outcome = self.control.apply(command);
        self.trace(|| format!("control, term {term}: {command:?}: {outcome:?}"));
        if let (Command::Expire { node, incarnation }, Ok(())) = (command, &outcome) {
            self.check_expired(*node, *incarnation);
        }
        let view = self.control.view().clone();
        if view.version > old.version {
            self.note_losses(&old);
            self.note_modules(&old, &view);
            for (node, member) in &view.members {
                // A node that does not hear of it hears of a later one.
                if self.kind == Kind::Overlapping && self.random.random_range(0..3) == 0 {
                    continue;
                }
                let packet = Packet::View(view.clone());
                self.tell_node(term, (*node, member.incarnation), packet);
            }
        }
        outcome
    }

    /// A server that is expired has no lease any more.
    fn check_expired(&self, node: NodeId, incarnation: Incarnation) {
        let Some(host) = self.hosts.get(&node) else {
            return;
        };
        let now_ms = host.clock.read(self.now_us);
        let process = host.process.as_ref();
        let process = process.filter(|process| process.node.incarnation() == incarnation);
        assert!(
            !process.is_some_and(|process| process.node.is_serving(now_ms)),
            "{node:?} is expired, and has a lease"
        );
    }

    /// Notes which objects a new view has lost: those of which no assignment was left that had them.
    fn note_losses(&mut self, old: &View) {
        let new = self.control.view().clone();
        for object in &self.objects {
            let partition = new.partition(&object.id);
            let (old, new) = (old.configuration(partition), new.configuration(partition));
            if old.epoch == new.epoch || old.assignments.is_empty() {
                continue;
            }
            let rank = new.primary().and_then(|primary| old.rank(primary));
            let loss = match rank {
                Some(rank) if rank < object.replicas => continue,
                Some(_) => Loss::Lost,
                // Nobody who is left has had an assignment.
                None => Loss::Forgotten,
            };
            if loss == Loss::Forgotten {
                self.forgotten.insert((object.id, self.events.count));
            }
            let worst = self.losses.entry(object.id).or_insert(Loss::None);
            *worst = loss.max(*worst);
        }
    }

    pub fn tick_control(&mut self) {
        for term in self.control.terms() {
            self.check(term, Check::Round);
        }
        self.after(ROUND_MS * MS, Event::ControlTick);
    }
}
