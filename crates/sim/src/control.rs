//! The control group: what it has decided, and its leaders, of which several may think at a time that they lead. The
//! decisions of a leader are those of [`LeaderTerm`]. Of consensus there is what the library promises: one order of
//! decisions, in which each leader's log begins with that of the leaders before it, as far as it has reached a voter.

use std::collections::VecDeque;
use std::sync::Arc;

use crucial_node::replication::{
    Command, Control, Decision, Heartbeat, Incarnation, LeaderTerm, LeaderTiming, NodeId, Refusal,
    View,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::events::{Clock, DRIFT, MS};
use crate::places::VOTERS;
use crate::process::LEASE_MS;

/// Which cluster all nodes belong to.
pub const CLUSTER: u64 = 1;

/// How often a leader looks whose lease has ended.
pub const ROUND_MS: u64 = 50;

/// After this time a voter is not waited for any more.
pub const VOTER_TIMEOUT_MS: u64 = LEASE_MS / 4;

/// The views of which a voter that has just been elected knows one.
const RECENT_VIEWS: usize = 4;

pub struct ControlGroup {
    /// What all that was decided has come to.
    state: Control,
    recent: VecDeque<Arc<View>>,
    /// The term of the newest leader. Only this one can make decisions.
    term: u64,
    /// Those that think that they lead, the newest last.
    leaders: Vec<Leader>,
    /// The log of a leader that has died.
    left: Vec<Entry>,
    /// Disks that often take long.
    has_slow_disks: bool,
}

/// A voter that thinks that it leads.
pub struct Leader {
    pub voter: u64,
    pub duties: LeaderTerm,
    clock: Clock,
    /// The newest view that it knows to be decided.
    pub view: Arc<View>,
    /// The entries that it does not know to be decided.
    log: Vec<Entry>,
    /// How many entries of its log were decided while it led.
    decided: u64,
    /// When the last entry is on most disks, if most voters can be reached.
    written_us: u64,
    /// The process does nothing until then; what comes waits.
    pub paused_until: u64,
}

/// An entry of the log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The term of the leader that has made it.
    term: u64,
    decision: Decision,
}

/// From this time on the first `count` entries of a leader's log are on most disks.
pub struct LogWrite {
    pub count: u64,
    pub at_us: u64,
}

/// What a leader does when it knows whether it still leads.
#[derive(Clone, Debug)]
pub enum Check {
    /// Answer a node's heartbeat.
    Heartbeat(NodeId, Incarnation, Heartbeat),
    /// Look whose lease has ended.
    Round,
}

/// Something that happens at a leader.
#[derive(Clone, Debug)]
pub enum LeaderEvent {
    /// Most voters say whether there is a later leader.
    Checked(Check),
    /// The leader hears what they have said.
    Answer(Check, bool),
    /// This number of entries of its log are on most disks.
    Written(u64),
    /// The leader hears that there is a later one.
    Deposed,
}

impl ControlGroup {
    pub fn new(state: Control, random: &mut ChaCha8Rng, rate: u64) -> ControlGroup {
        let mut group = ControlGroup {
            recent: VecDeque::from([state.view().clone()]),
            state,
            term: 0,
            leaders: Vec::new(),
            left: Vec::new(),
            has_slow_disks: random.random_range(0..3) == 0,
        };
        let clock = Clock {
            offset_ms: 5_000,
            per_mille: rate,
        };
        group.elect(random, clock, 0);
        if let Some(first) = group.leaders.last_mut() {
            first.duties.first_entry_committed(1, clock.read(0));
            first.decided = 1;
            first.log.clear();
        }
        group
    }

    pub fn view(&self) -> &Arc<View> {
        self.state.view()
    }

    /// The newest leader, if it has not died.
    pub fn newest(&self) -> Option<u64> {
        let last = self.leaders.last().map(|leader| leader.duties.term());
        last.filter(|term| self.is_newest(*term))
    }

    /// Whether no later leader was elected.
    pub fn is_newest(&self, term: u64) -> bool {
        term == self.term
    }

    pub fn terms(&self) -> Vec<u64> {
        let terms = self.leaders.iter().map(|leader| leader.duties.term());
        terms.collect()
    }

    pub fn leader(&mut self, term: u64) -> Option<&mut Leader> {
        let mut leaders = self.leaders.iter_mut();
        leaders.find(|leader| leader.duties.term() == term)
    }

    /// A voter is elected. It has of the last leader's log what has reached it, and all that was decided.
    pub fn elect(&mut self, random: &mut ChaCha8Rng, clock: Clock, now_us: u64) -> u64 {
        let mut log = match self.newest() {
            Some(_) => self
                .leaders
                .last()
                .map_or(Vec::new(), |last| last.log.clone()),
            None => std::mem::take(&mut self.left),
        };
        log.truncate(random.random_range(0..=log.len()));
        self.term += 1;
        let (term, voter) = (self.term, random.random_range(0..VOTERS.len()));
        log.push(Entry {
            term,
            decision: Decision {
                term: Some(term),
                commands: Vec::new(),
            },
        });
        let timing = LeaderTiming {
            wait_ms: LEASE_MS + LEASE_MS * 2 * DRIFT / 1000 + 2,
            lost_ms: 4 * LEASE_MS / 10,
        };
        self.leaders.retain(|leader| leader.voter != VOTERS[voter]);
        self.leaders.push(Leader {
            voter: VOTERS[voter],
            duties: LeaderTerm::new(term, timing, clock.read(now_us)),
            clock,
            view: self.recent[random.random_range(0..self.recent.len())].clone(),
            log,
            decided: 0,
            written_us: now_us,
            paused_until: 0,
        });
        term
    }

    /// A leader does not lead any more, and knows it, or it has died.
    pub fn depose(&mut self, term: u64) {
        let Some(at) = (self.leaders.iter()).position(|leader| leader.duties.term() == term) else {
            return;
        };
        let leader = self.leaders.remove(at);
        if self.is_newest(term) {
            self.left = leader.log;
        }
    }

    /// A leader takes a proposal into its log, unless it has it there.
    pub fn append(
        &mut self,
        term: u64,
        decision: Decision,
        (random, now_us): (&mut ChaCha8Rng, u64),
    ) -> Option<LogWrite> {
        let delay_us = self.disk_us(random);
        let leader = self.leader(term)?;
        let is_there = |entry: &Entry| entry.decision == decision;
        if leader.log.iter().any(is_there) {
            return None;
        }
        leader.log.push(Entry { term, decision });
        Some(leader.write(now_us, delay_us))
    }

    /// A new leader's log is written.
    pub fn write_log(
        &mut self,
        term: u64,
        (random, now_us): (&mut ChaCha8Rng, u64),
    ) -> Option<LogWrite> {
        let delay_us = self.disk_us(random);
        Some(self.leader(term)?.write(now_us, delay_us))
    }

    fn disk_us(&self, random: &mut ChaCha8Rng) -> u64 {
        match random.random_range(0..10) {
            0 if self.has_slow_disks => random.random_range(50..1_500) * MS,
            _ => random.random_range(200..5_000),
        }
    }

    /// The commands of a leader's entries that are on most disks, in the order in which they are decided.
    pub fn take_written(&mut self, term: u64, count: u64, now_us: u64) -> Vec<Command> {
        let Some(leader) = self.leader(term) else {
            return Vec::new();
        };
        let new = count.saturating_sub(leader.decided);
        leader.decided += new;
        let mut commands = Vec::new();
        for entry in leader.log.drain(..new as usize) {
            let now_ms = leader.clock.read(now_us);
            leader.duties.first_entry_committed(entry.term, now_ms);
            commands.extend(entry.decision.in_term(entry.term));
        }
        commands
    }

    pub fn apply(&mut self, command: &Command) -> Result<(), Refusal> {
        let outcome = self.state.apply(command);
        self.recent.push_back(self.state.view().clone());
        if self.recent.len() > RECENT_VIEWS {
            self.recent.pop_front();
        }
        outcome
    }

    /// A leader knows what was decided.
    pub fn tell(&mut self, term: u64) {
        let view = self.state.view().clone();
        if let Some(leader) = self.leader(term) {
            leader.view = view;
        }
    }
}

impl Leader {
    pub fn now_ms(&self, now_us: u64) -> u64 {
        self.clock.read(now_us)
    }

    fn write(&mut self, now_us: u64, delay_us: u64) -> LogWrite {
        self.written_us = self.written_us.max(now_us + delay_us);
        LogWrite {
            count: self.decided + self.log.len() as u64,
            at_us: self.written_us,
        }
    }
}
