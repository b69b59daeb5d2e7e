//! What goes wrong.

use crucial_node::REPLICAS_MAX;
use crucial_node::replication::placement::wanted;
use crucial_node::replication::{Assignment, NodeId, PartitionId, View};
use crucial_object::SessionId;
use rand::Rng;

use crate::brittle::Weakness;
use crate::event::Event;
use crate::events::MS;
use crate::fault::{Fault, Kind};
use crate::model::Loss;
use crate::places::{CLIENTS, place_of};
use crate::process::LEASE_MS;
use crate::wire::End;
use crate::world::{Host, World};

/// How many faults overlap, at most.
const OVERLAPPING_MAX: usize = 3;

/// No more nodes are started than this.
const NODES_MAX: usize = 8;

impl World {
    /// Whether each partition is where it is to be, so that one fault loses nothing.
    pub fn is_whole(&self) -> bool {
        let view = self.control.view();
        let all_serve = view.partitions().all(|partition| {
            view.configuration(partition).assignments == assignments(partition, view)
        });
        all_serve && view.members.len() >= 3
    }

    /// Links become slow, and fast again, at any time: nobody is taken for dead for that.
    fn slow_down(&mut self) {
        self.slow.clear();
        let nodes = self.hosts.keys().map(|node| node.0);
        let last = self.clients.keys().next_back();
        let client = last.map_or(CLIENTS, |client| place_of(*client));
        let ends: Vec<_> = nodes.chain([0, CLIENTS, client]).collect();
        for _ in 0..self.random.random_range(0..4) {
            let from = ends[self.random.random_range(0..ends.len())];
            let to = ends[self.random.random_range(0..ends.len())];
            self.slow.insert((from, to));
        }
    }

    /// A client dies, unless it is the last, or says goodbye and begins anew.
    fn kill_client(&mut self) {
        let clients = self.clients.iter();
        let alive = clients.filter(|(_, client)| !client.is_dead && client.work.is_none());
        let alive = alive.map(|(session, _)| *session);
        let alive: Vec<_> = alive.filter(|client| !self.owns_threads(*client)).collect();
        if alive.len() < 3 {
            return;
        }
        let victim = alive[self.random.random_range(0..alive.len())];
        self.trace(|| format!("client {} dies", victim.0));
        self.report.deaths += 1;
        if self.random.random() {
            let is_said = self.random.random();
            return self.kill_process(victim, is_said);
        }
        self.say_goodbye(victim);
        let left = self.clients.get(&victim).map_or(0, |client| client.left);
        self.report.anew += 1;
        self.begin_client(left);
    }

    /// A client's process dies. `is_said`: its kernel says so.
    pub fn kill_process(&mut self, id: SessionId, is_said: bool) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.is_dead = true;
        }
        self.after_client(id);
        self.close_all_of_client(id, is_said);
    }

    /// A client says goodbye and ends.
    pub fn say_goodbye(&mut self, id: SessionId) {
        let now = self.now();
        if let Some(client) = self.clients.get_mut(&id) {
            client.caller.say_goodbye(now.ms);
        }
        self.kill_process(id, true);
    }

    /// A connection breaks, which takes no part in anything else.
    fn break_one(&mut self) {
        let ids: Vec<_> = self.hosts.keys().copied().collect();
        let id = ids[self.random.random_range(0..ids.len())];
        let Some(process) = self.hosts.get_mut(&id).and_then(|host| host.process.take()) else {
            return;
        };
        let ends: Vec<_> = process.open_ends().collect();
        if !ends.is_empty() {
            let end = ends[self.random.random_range(0..ends.len())];
            self.trace(|| format!("{id:?}: {end:?} breaks"));
            match end {
                End::Client(stream) => self.break_stream(stream),
                end => self.break_connection(&process, end),
            }
        }
        if let Some(host) = self.hosts.get_mut(&id) {
            host.process = Some(process);
        }
    }

    /// Lets something go wrong, now and then.
    pub fn tick_faults(&mut self) {
        self.after(300 * MS, Event::Fault);
        if self.random.random_range(0..3) == 0 {
            self.slow_down();
        }
        if self.random.random_range(0..100) == 0 {
            self.kill_client();
        }
        if self.random.random_range(0..5) == 0 {
            self.break_one();
        }
        let is_busy = self.clients.values().any(|client| !client.is_done());
        if is_busy && self.may_begin_fault() {
            self.begin_fault();
        }
    }

    fn may_begin_fault(&mut self) -> bool {
        match self.kind {
            Kind::OneFault => {
                let calm_us = self.now_us.saturating_sub(self.calm_since);
                let is_calm = self.faults.is_empty() && calm_us >= 2 * LEASE_MS * MS;
                // A backup may lack a brittle object for a while after the fault.
                let has_brittle = || self.objects.iter().any(|object| object.is_brittle);
                is_calm && self.is_whole() && (!has_brittle() || self.replicas_agree().is_ok())
            }
            Kind::Overlapping => {
                self.faults.len() < OVERLAPPING_MAX && self.random.random_range(0..5) == 0
            }
        }
    }

    /// For how long a fault lasts.
    fn duration_us(&mut self) -> u64 {
        let leases = match self.kind {
            Kind::Overlapping if self.random.random_range(0..6) == 0 => 30,
            _ => 4,
        };
        self.random.random_range(100..leases * LEASE_MS) * MS
    }

    fn begin_fault(&mut self) {
        // A node that is about to leave is no victim, and does not count among those that are left.
        let stays = |host: &Host| host.process.is_some() && !host.is_leaving;
        let nodes = self.hosts.iter().filter(|(_, host)| stays(host));
        let nodes: Vec<_> = nodes.map(|(id, _)| *id).collect();
        if nodes.is_empty() {
            return;
        }
        self.report.faults += 1;
        self.last_fault += 1;
        let number = self.last_fault;
        let victim = nodes[self.random.random_range(0..nodes.len())];
        let other = nodes[self.random.random_range(0..nodes.len())];
        let duration_us = self.duration_us();
        let has_brittle = self.objects.iter().any(|object| object.is_brittle);
        let kind = match (self.kind, self.random.random_range(0..14)) {
            (_, 10 | 11) if !has_brittle => self.random.random_range(0..10),
            (Kind::OneFault, 12..) => self.random.random_range(0..10),
            (_, kind) => kind,
        };
        let is_cut_off = (3..=5).contains(&kind);
        let mut fault = Fault::default();
        match kind {
            0 | 1 => {
                self.trace(|| format!("fault {number}: kill {victim:?}"));
                self.end_process(victim);
                if let Some(host) = self.hosts.get_mut(&victim) {
                    host.is_off = kind == 1;
                }
                self.after(duration_us, Event::Start(victim));
            }
            2 => {
                self.trace(|| {
                    format!(
                        "fault {number}: pause {victim:?} for {} ms",
                        duration_us / MS
                    )
                });
                if let Some(host) = self.hosts.get_mut(&victim) {
                    host.paused_until = self.now_us + duration_us;
                }
            }
            3 => {
                self.trace(|| format!("fault {number}: isolate {victim:?}"));
                let is_cut_from_clients = self.random.random_range(0..3) == 0;
                fault.isolate(victim, &nodes, is_cut_from_clients);
            }
            4 => {
                let place = self.group_or_leader();
                self.trace(|| format!("fault {number}: {victim:?} cannot send to {place}"));
                fault.cut.insert((victim.0, place));
            }
            5 => {
                let place = self.group_or_leader();
                self.trace(|| format!("fault {number}: {victim:?} cannot hear {place}"));
                fault.cut.insert((place, victim.0));
            }
            6 => {
                self.trace(|| format!("fault {number}: cut {victim:?} → {other:?}"));
                fault.cut.insert((victim.0, other.0));
                if self.random.random() {
                    fault.cut.insert((other.0, victim.0));
                }
            }
            7 => {
                self.change_leader(number, &mut fault, (victim, &nodes), duration_us);
            }
            10 | 11 => {
                let weakness = self.weakness();
                self.trace(|| format!("fault {number}: {victim:?} has {weakness:?}"));
                fault.weak = Some((victim, weakness));
            }
            12.. => {
                let clients: Vec<_> = self.clients.keys().copied().collect();
                let client = clients[self.random.random_range(0..clients.len())];
                self.trace(|| format!("fault {number}: cut client {} and {victim:?}", client.0));
                fault.cut_both_ways(victim.0, place_of(client));
            }
            _ if nodes.len() > 3 => {
                self.trace(|| format!("fault {number}: {victim:?} leaves"));
                if let Some(host) = self.hosts.get_mut(&victim) {
                    host.is_leaving = true;
                }
            }
            _ if self.hosts.len() < NODES_MAX => {
                let next = self.hosts.keys().last().map_or(1, |last| last.0 + 1);
                self.after(0, Event::Start(NodeId(next)));
            }
            _ => {}
        }
        // A node without the control group is worst where clients know of no other.
        if is_cut_off && self.random.random() {
            self.part_clients(&mut fault, victim, &nodes);
        }
        self.faults.insert(number, fault);
        self.after(duration_us, Event::Heal(number));
    }

    /// What a node cannot do with brittle objects. One that can be encoded nowhere may be lost with a server: another fault.
    fn weakness(&mut self) -> Weakness {
        let decodes = self.kind == Kind::Overlapping && self.random.random();
        if self.kind == Kind::Overlapping {
            for object in self.objects.iter().filter(|object| object.is_brittle) {
                let worst = self.losses.entry(object.id).or_insert(Loss::None);
                *worst = Loss::Lost.max(*worst);
            }
        }
        Weakness {
            encodes: !decodes || self.kind == Kind::OneFault,
            decodes,
        }
    }

    /// What a node can do with brittle objects now.
    pub fn weakness_of(&self, node: NodeId) -> Weakness {
        let weak = self.faults.values().filter_map(|fault| fault.weak);
        let mine = weak.filter(|(victim, _)| *victim == node);
        mine.fold(Weakness::NONE, |sum, (_, weakness)| Weakness {
            encodes: sum.encodes && weakness.encodes,
            decodes: sum.decodes && weakness.decodes,
        })
    }

    /// A node that gives a partition away does, now and then, not hear what comes of that, while another fault goes on.
    pub fn on_hand_over(&mut self, victim: NodeId) {
        let Some(number) = self.faults.keys().next_back().copied() else {
            return;
        };
        if self.random.random_range(0..4) > 0 {
            return;
        }
        self.trace(|| format!("fault {number}: {victim:?} cannot hear the control group"));
        let mut fault = self.faults.remove(&number).unwrap_or_default();
        fault.cut.insert((0, victim.0));
        let nodes: Vec<_> = self.hosts.keys().copied().collect();
        self.part_clients(&mut fault, victim, &nodes);
        self.faults.insert(number, fault);
    }

    /// Each client reaches either one node or all others.
    pub fn part_clients(&mut self, fault: &mut Fault, victim: NodeId, nodes: &[NodeId]) {
        let sessions: Vec<_> = self.clients.keys().copied().collect();
        for session in sessions {
            let is_with_victim: bool = self.random.random();
            self.trace(|| format!("{session:?} is with it: {is_with_victim}"));
            for node in nodes
                .iter()
                .filter(|node| (**node == victim) != is_with_victim)
            {
                fault.cut_both_ways(node.0, place_of(session));
            }
            if is_with_victim {
                fault.cut_both_ways(0, place_of(session));
                fault.parted.insert(session, victim);
            }
        }
    }
}

fn assignments(partition: PartitionId, view: &View) -> Vec<Assignment> {
    wanted(partition, view, REPLICAS_MAX)
}
