//! The world of one run: network, clocks, faults, and what must hold at the end.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use crucial_cluster::placement::wanted;
use crucial_cluster::{
    Body as ReplicaBody, Command, Control, Grant, Incarnation, NodeId, PartitionId, Refusal, Roll,
    View,
};
use crucial_linear::{Checker, Failure, History};
use crucial_object::{ObjectId, SessionId};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::client::Client;
use crate::model::{Input, Loss, Output, Thing};
use crate::node::{Effect, Node};
use crate::wire::{Packet, Reply};

/// Of all nodes.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub partitions: usize,
    pub replicas_max: u8,
    pub lease_ms: u64,
}

/// An object that clients use.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    pub id: ObjectId,
    pub kind: Kind,
    pub replicas: u8,
    /// It is deleted now and then.
    pub is_volatile: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Queue,
    Lock,
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Broken {
    pub seed: u64,
    pub what: String,
}

/// What happened in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    pub operations: usize,
    pub unanswered: usize,
    pub faults: usize,
    /// Of clients.
    pub deaths: usize,
    pub views: u64,
    pub lost: usize,
    /// Objects whose histories have too many orders to look at.
    pub undecided: usize,
    pub time_ms: u64,
}

const MS: u64 = 1000;
const LEASE_MS: u64 = 1000;
/// What a clock may be wrong by, in parts of a thousand.
const DRIFT: u64 = 10;

#[derive(Clone, Debug)]
enum Event {
    ToNode(NodeId, Incarnation, Packet),
    ToControl(NodeId, Packet),
    ToClient(SessionId, Reply),
    NodeTick(NodeId, Incarnation),
    ClientTick(SessionId),
    ControlTick,
    Fault,
    Heal,
    Start(NodeId),
}

struct Clock {
    offset_ms: u64,
    per_mille: u64,
}

impl Clock {
    fn read(&self, now_us: u64) -> u64 {
        self.offset_ms + now_us / MS * self.per_mille / 1000
    }
}

struct Host {
    node: Option<Node>,
    clock: Clock,
    was_member: bool,
    /// It does nothing until then; what comes waits.
    paused_until: u64,
}

pub struct World {
    seed: u64,
    random: ChaCha8Rng,
    settings: Settings,
    now_us: u64,
    steps: u64,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    bodies: BTreeMap<u64, Event>,
    hosts: BTreeMap<NodeId, Host>,
    clients: BTreeMap<SessionId, Client>,
    objects: Vec<Object>,
    control: Control,
    roll: Roll,
    control_clock: Clock,
    control_down_until: u64,
    /// Nothing gets from the one to the other; 0 is the control group.
    cut: BTreeSet<(u64, u64)>,
    /// From the one to the other takes long.
    slow: BTreeSet<(u64, u64)>,
    loss_per_mille: u64,
    is_healing: bool,
    calm_since: u64,
    report: Report,
    trace: bool,
    /// Lives of nodes, of all of them.
    lives: u64,
    /// What deaths have done to objects.
    losses: BTreeMap<ObjectId, Loss>,
}

impl World {
    pub fn new(seed: u64, trace: bool) -> World {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let settings = Settings {
            partitions: 4,
            replicas_max: 3,
            lease_ms: LEASE_MS,
        };
        let objects = objects(&mut random);
        let control = Control::new(settings.partitions);
        let mut world = World {
            seed,
            settings,
            now_us: 0,
            steps: 0,
            events: BinaryHeap::new(),
            bodies: BTreeMap::new(),
            hosts: BTreeMap::new(),
            clients: BTreeMap::new(),
            objects,
            control,
            roll: Roll::new(0),
            control_clock: Clock {
                offset_ms: 5_000,
                per_mille: 1000,
            },
            control_down_until: 0,
            cut: BTreeSet::new(),
            slow: BTreeSet::new(),
            loss_per_mille: [0, 0, 10, 50][random.random_range(0..4)],
            is_healing: false,
            calm_since: 0,
            report: Report::default(),
            trace,
            lives: 0,
            losses: BTreeMap::new(),
            random,
        };
        world.control_clock.per_mille = world.rate();
        world.roll = Roll::new(world.control_clock.read(0));
        for node in 1..=world.random.random_range(3..=4) {
            world.start(NodeId(node));
        }
        let clients = world.random.random_range(3..=5);
        let requests = 40;
        for session in 1..=clients {
            let view = world.control.view().clone();
            let client = Client::new(session, requests, view);
            world.clients.insert(SessionId(session), client);
            world.after(500 * MS, Event::ClientTick(SessionId(session)));
        }
        world.after(0, Event::ControlTick);
        world.after(3_000 * MS, Event::Fault);
        world
    }

    fn rate(&mut self) -> u64 {
        self.random
            .random_range(1000 - DRIFT / 2..=1000 + DRIFT / 2)
    }

    fn after(&mut self, delay_us: u64, event: Event) {
        self.steps += 1;
        self.events
            .push(Reverse((self.now_us + delay_us, self.steps)));
        self.bodies.insert(self.steps, event);
    }

    /// A node's process starts, with nothing in memory.
    fn start(&mut self, id: NodeId) {
        self.lives += 1;
        let incarnation = Incarnation(self.lives);
        let rate = self.rate();
        let settings = self.settings;
        let offset_ms = self.random.random_range(0..1_000_000);
        let host = self.hosts.entry(id).or_insert_with(|| Host {
            node: None,
            clock: Clock {
                offset_ms,
                per_mille: rate,
            },
            was_member: false,
            paused_until: 0,
        });
        host.node = Some(Node::new(id, incarnation, settings));
        host.was_member = false;
        self.after(0, Event::NodeTick(id, incarnation));
    }

    /// Runs it to its end.
    pub fn run(mut self) -> Result<Report, Broken> {
        const STEPS_MAX: u64 = 2_000_000;
        while let Some(Reverse((at, step))) = self.events.pop() {
            self.now_us = at;
            if let Some(event) = self.bodies.remove(&step) {
                self.handle(event);
            }
            if self.is_finished() {
                return self.judge();
            }
            if self.now_us > 600_000 * MS || self.steps > STEPS_MAX {
                let waiting: Vec<_> = self
                    .clients
                    .values()
                    .filter_map(Client::waits_for)
                    .collect();
                let what = format!(
                    "no end after {} s; clients wait for {waiting:?}; whole: {}; replicas: {:?}",
                    self.now_us / MS / 1000,
                    self.is_whole(),
                    self.replicas_agree(),
                );
                return Err(self.broken(what));
            }
        }
        Err(self.broken("no events".to_owned()))
    }

    fn broken(&self, what: String) -> Broken {
        Broken {
            seed: self.seed,
            what,
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::ToNode(id, ..) | Event::NodeTick(id, _) if self.is_paused(id) => {
                // It waits, in the order in which it came.
                let until = self.hosts.get(&id).map_or(0, |host| host.paused_until);
                self.after(until.saturating_sub(self.now_us), event);
            }
            Event::ToNode(id, incarnation, packet) => self.at_node(id, incarnation, Some(packet)),
            Event::NodeTick(id, incarnation) => {
                self.at_node(id, incarnation, None);
                let is_alive = self.node(id).is_some_and(|n| n.incarnation == incarnation);
                if is_alive {
                    self.after(50 * MS, Event::NodeTick(id, incarnation));
                }
            }
            Event::ToControl(from, packet) => self.at_control(from, packet),
            Event::ToClient(client, reply) => {
                let now = self.steps;
                if self.trace && !matches!(reply, Reply::View(_)) {
                    self.trace(&format!("client {} ← {reply:?}", client.0));
                }
                let Some(client) = self.clients.get_mut(&client) else {
                    return;
                };
                let packets = client.receive(reply, now);
                self.send_from_client(packets);
            }
            Event::ClientTick(session) => self.tick_client(session),
            Event::ControlTick => self.tick_control(),
            Event::Fault => self.fault(),
            Event::Heal => {
                self.trace("heal");
                self.cut.clear();
                self.is_healing = false;
                self.calm_since = self.now_us;
            }
            Event::Start(id) => {
                self.trace(&format!("start {id:?}"));
                self.start(id);
            }
        }
    }

    fn trace(&self, what: &str) {
        if self.trace {
            eprintln!("{:>8} ms  {what}", self.now_us / MS);
        }
    }

    fn is_paused(&self, id: NodeId) -> bool {
        let host = self.hosts.get(&id);
        host.is_some_and(|host| host.paused_until > self.now_us)
    }

    fn node(&self, id: NodeId) -> Option<&Node> {
        self.hosts.get(&id)?.node.as_ref()
    }

    fn at_node(&mut self, id: NodeId, incarnation: Incarnation, packet: Option<Packet>) {
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        let now_ms = host.clock.read(self.now_us);
        let Some(node) = host.node.as_mut().filter(|n| n.incarnation == incarnation) else {
            return;
        };
        let mut effects = Vec::new();
        match packet {
            Some(packet) => {
                if self.trace {
                    match &packet {
                        Packet::Peer {
                            from,
                            partition,
                            message,
                        } => eprintln!(
                            "{:>8} ms  {from:?} → {id:?} {partition:?} {message:?}",
                            self.now_us / MS
                        ),
                        Packet::Request(request) => eprintln!(
                            "{:>8} ms  client {} → {id:?} {request:?}",
                            self.now_us / MS,
                            request.client.0
                        ),
                        _ => {}
                    }
                }
                node.receive(packet, now_ms, &mut effects);
            }
            None => node.tick(now_ms, &mut effects),
        }
        let is_expelled = node.is_expelled(host.was_member);
        host.was_member |= node.is_member();
        if is_expelled {
            let leaves = node.is_leaving;
            host.node = None;
            self.trace(&format!("{id:?} is expelled"));
            if !leaves {
                self.start(id);
            }
        }
        for effect in effects {
            self.effect(id, effect);
        }
    }

    fn effect(&mut self, from: NodeId, effect: Effect) {
        match effect {
            Effect::Node(to, incarnation, packet) => {
                let event = Event::ToNode(to, incarnation, packet);
                self.travel(from.0, to.0, event);
            }
            Effect::Control(packet) => self.travel(from.0, 0, Event::ToControl(from, packet)),
            // Clients reach whoever can be reached at all.
            Effect::Client(client, reply) => {
                self.travel(from.0, u64::MAX, Event::ToClient(client, reply));
            }
        }
    }

    fn travel(&mut self, from: u64, to: u64, event: Event) {
        if self.cut.contains(&(from, to)) {
            return;
        }
        let copies = match self.random.random_range(0..1000) {
            chance if chance < self.loss_per_mille => 0,
            chance if chance < 2 * self.loss_per_mille => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let slow_ms = match self.slow.contains(&(from, to)) {
                true => LEASE_MS * 9 / 10,
                false => 0,
            };
            let delay_us = match self.random.random_range(0..200) {
                // Nobody waits so long for a connection between servers.
                0 if from == u64::MAX => self.random.random_range(1..10_000) * MS,
                0 => self.random.random_range(1..2_000) * MS,
                _ if slow_ms > 0 => self.random.random_range(0..slow_ms) * MS,
                1..10 => self.random.random_range(1..200) * MS,
                _ => self.random.random_range(100..5_000),
            };
            self.after(delay_us, event.clone());
        }
    }

    fn send_from_client(&mut self, packets: Vec<(NodeId, Incarnation, Packet)>) {
        for (to, incarnation, packet) in packets {
            let event = Event::ToNode(to, incarnation, packet);
            self.travel(u64::MAX, to.0, event);
        }
    }

    fn tick_client(&mut self, session: SessionId) {
        let now = self.steps;
        let view = self.control.view().clone();
        let Some(client) = self.clients.get_mut(&session) else {
            return;
        };
        // Now and then it asks elsewhere than at the members that it knows.
        if self.random.random_range(0..20) == 0 {
            client.hear(&view);
        }
        let packets = client.tick(now, &self.objects, &mut self.random);
        self.send_from_client(packets);
        let delay_us = self.random.random_range(20..400) * MS;
        self.after(delay_us, Event::ClientTick(session));
    }

    // The control group.

    fn at_control(&mut self, from: NodeId, packet: Packet) {
        if self.control_down_until > self.now_us {
            return;
        }
        let now_ms = self.control_clock.read(self.now_us);
        match packet {
            Packet::Heartbeat {
                node,
                incarnation,
                sent_ms,
                leaving,
            } => {
                let view = self.control.view();
                if view.has(node, incarnation) {
                    self.roll.hear(node, incarnation, now_ms);
                    let is_leaving = view.members.get(&node).is_some_and(|m| m.leaving);
                    if leaving && !is_leaving {
                        let _ = self.decide(&Command::Leave { node, incarnation });
                    }
                } else if !leaving {
                    let joined = self.decide(&Command::Join {
                        node,
                        incarnation,
                        address: String::new(),
                        lease_ms: self.settings.lease_ms,
                    });
                    if matches!(joined, Err(Refusal::Over { .. })) {
                        let event = Event::ToNode(node, incarnation, Packet::Over);
                        self.travel(0, from.0, event);
                    }
                    self.roll.hear(node, incarnation, now_ms);
                }
                let view = self.control.view().clone();
                let packet = if view.has(node, incarnation) {
                    let grant = Grant {
                        sent_ms,
                        view: view.version,
                    };
                    Packet::Grant(grant, view)
                } else {
                    Packet::View(view)
                };
                let event = Event::ToNode(node, incarnation, packet);
                self.travel(0, from.0, event);
            }
            Packet::Command(command) => {
                // A refused proposal is one that came too late.
                let _ = self.decide(&command);
            }
            _ => {}
        }
    }

    fn decide(&mut self, command: &Command) -> Result<(), Refusal> {
        let old = self.control.view().clone();
        let before = old.version;
        let outcome = self.control.apply(command);
        self.mourn(&old);
        if self.trace {
            eprintln!(
                "{:>8} ms  control: {command:?}: {outcome:?}",
                self.now_us / MS
            );
        }
        let view = self.control.view().clone();
        if view.version > before {
            for (node, member) in &view.members {
                let event = Event::ToNode(*node, member.incarnation, Packet::View(view.clone()));
                self.travel(0, node.0, event);
            }
        }
        outcome
    }

    /// Notes which objects a new view has lost: those of which no seat was left that had them.
    fn mourn(&mut self, old: &View) {
        let new = self.control.view().clone();
        for object in &self.objects {
            let partition = new.partition(&object.id);
            let (old, new) = (old.configuration(partition), new.configuration(partition));
            if old.epoch == new.epoch || old.seats.is_empty() {
                continue;
            }
            let level = new.primary().and_then(|primary| old.level(primary));
            let loss = match level {
                Some(level) if level < object.replicas => continue,
                Some(_) => Loss::Lost,
                // Nobody who is left has had a seat.
                None => Loss::Forgotten,
            };
            let worst = self.losses.entry(object.id).or_insert(Loss::None);
            *worst = loss.max(*worst);
        }
    }

    fn tick_control(&mut self) {
        if self.control_down_until <= self.now_us {
            let now_ms = self.control_clock.read(self.now_us);
            let wait_ms = LEASE_MS + LEASE_MS * 2 * DRIFT / 1000 + 2;
            let view = self.control.view().clone();
            for command in self.roll.expired(&view, now_ms, wait_ms) {
                let _ = self.decide(&command);
            }
        }
        self.after(50 * MS, Event::ControlTick);
    }

    // Faults.

    /// Whether each partition is where it is to be, so that one fault loses nothing.
    fn is_whole(&self) -> bool {
        let view = self.control.view();
        let all_serve = view
            .partitions()
            .all(|partition| view.configuration(partition).seats == self.wanted(partition, view));
        all_serve && view.members.len() >= 3
    }

    fn wanted(&self, partition: PartitionId, view: &View) -> Vec<crucial_cluster::Seat> {
        wanted(partition, view, self.settings.replicas_max)
    }

    /// Links become slow, and fast again, at any time: nobody is taken for dead for that.
    fn slow_down(&mut self) {
        self.slow.clear();
        let ends: Vec<_> = self
            .hosts
            .keys()
            .map(|node| node.0)
            .chain([0, u64::MAX])
            .collect();
        for _ in 0..self.random.random_range(0..4) {
            let from = ends[self.random.random_range(0..ends.len())];
            let to = ends[self.random.random_range(0..ends.len())];
            self.slow.insert((from, to));
        }
    }

    /// A client dies, unless it is the last.
    fn kill_client(&mut self) {
        let alive: Vec<_> = self
            .clients
            .iter()
            .filter(|(_, client)| !client.is_dead)
            .map(|(session, _)| *session)
            .collect();
        if alive.len() < 3 {
            return;
        }
        let victim = alive[self.random.random_range(0..alive.len())];
        self.trace(&format!("client {} dies", victim.0));
        if let Some(client) = self.clients.get_mut(&victim) {
            client.is_dead = true;
        }
        self.report.deaths += 1;
    }

    fn fault(&mut self) {
        self.after(300 * MS, Event::Fault);
        if self.random.random_range(0..3) == 0 {
            self.slow_down();
        }
        if self.random.random_range(0..100) == 0 {
            self.kill_client();
        }
        let calm_us = self.now_us.saturating_sub(self.calm_since);
        if self.is_healing || calm_us < 2 * LEASE_MS * MS || !self.is_whole() {
            return;
        }
        let busy = self.clients.values().any(|client| !client.is_done());
        if !busy {
            return;
        }
        self.is_healing = true;
        self.report.faults += 1;
        // Who is about to leave is no victim, and none of those that are left.
        let stays = |host: &Host| host.node.as_ref().is_some_and(|node| !node.is_leaving);
        let nodes = self.hosts.iter().filter(|(_, host)| stays(host));
        let nodes: Vec<_> = nodes.map(|(id, _)| *id).collect();
        let victim = nodes[self.random.random_range(0..nodes.len())];
        let other = nodes[self.random.random_range(0..nodes.len())];
        let duration_us = self.random.random_range(100..4 * LEASE_MS) * MS;
        match self.random.random_range(0..10) {
            0 | 1 => {
                self.trace(&format!("kill {victim:?}"));
                if let Some(host) = self.hosts.get_mut(&victim) {
                    host.node = None;
                }
                self.after(duration_us, Event::Start(victim));
            }
            2 => {
                self.trace(&format!("pause {victim:?} for {} ms", duration_us / MS));
                if let Some(host) = self.hosts.get_mut(&victim) {
                    host.paused_until = self.now_us + duration_us;
                }
            }
            3 => {
                self.trace(&format!("isolate {victim:?}"));
                let mut all: Vec<_> = nodes.iter().map(|node| node.0).collect();
                all.push(0);
                if self.random.random() {
                    all.push(u64::MAX);
                }
                for node in all {
                    self.cut.insert((victim.0, node));
                    self.cut.insert((node, victim.0));
                }
            }
            4 => {
                self.trace(&format!("{victim:?} can not send to the control group"));
                self.cut.insert((victim.0, 0));
            }
            5 => {
                self.trace(&format!("{victim:?} can not hear the control group"));
                self.cut.insert((0, victim.0));
            }
            6 => {
                self.trace(&format!("cut {victim:?} → {other:?}"));
                self.cut.insert((victim.0, other.0));
                if self.random.random() {
                    self.cut.insert((other.0, victim.0));
                }
            }
            7 => {
                self.trace("the control group has another leader");
                self.control_down_until = self.now_us + duration_us;
                let rate = self.rate();
                self.control_clock = Clock {
                    offset_ms: self.random.random_range(0..1_000_000),
                    per_mille: rate,
                };
                let at = self.control_clock.read(self.control_down_until);
                self.roll = Roll::new(at);
            }
            _ if nodes.len() > 3 => {
                self.trace(&format!("{victim:?} leaves"));
                if let Some(node) = self.hosts.get_mut(&victim).and_then(|h| h.node.as_mut()) {
                    node.is_leaving = true;
                }
            }
            _ => {
                let newcomer = self.hosts.keys().last().map_or(1, |last| last.0 + 1);
                self.after(0, Event::Start(NodeId(newcomer)));
            }
        }
        self.after(duration_us, Event::Heal);
    }

    // The end.

    fn is_finished(&self) -> bool {
        self.clients.values().all(Client::is_done)
            && !self.is_healing
            && self.now_us.saturating_sub(self.calm_since) > 3 * LEASE_MS * MS
            && self.is_whole()
            && self.hosts.values().all(|host| match &host.node {
                Some(node) => node.is_member() || node.is_leaving,
                None => true,
            })
            && self.events.len() < 10_000
            && self.replicas_agree().is_ok()
            && !self.dead_hold_something()
    }

    /// Whether a client that has died waits or holds something yet.
    fn dead_hold_something(&self) -> bool {
        let view = self.control.view();
        self.objects.iter().any(|object| {
            let primary = view.primary(view.partition(&object.id));
            let node = primary.and_then(|primary| self.node(primary));
            let replica = node.and_then(|node| node.objects.get(&object.id));
            let sessions = replica.map(|replica| replica.sessions());
            let mut sessions = sessions.into_iter().flatten();
            sessions.any(|session| self.clients.get(&session).is_some_and(|c| c.is_dead))
        })
    }

    /// Whether all seats hold the same of each object.
    fn replicas_agree(&self) -> Result<(), String> {
        let view = self.control.view();
        for object in &self.objects {
            let partition = view.partition(&object.id);
            let mut first = None;
            let seats = &view.configuration(partition).seats;
            for seat in seats {
                let Some(node) = self.node(seat.node) else {
                    return Err(format!("{:?} is not there", seat.node));
                };
                let replica = node.objects.get(&object.id);
                // Below its level a seat has what a stub says.
                let level = match seat.level < object.replicas {
                    true => 0,
                    false => u8::MAX,
                };
                let held = replica.map(|replica| replica.held(object.id, level));
                let stub = replica.map(|replica| replica.held(object.id, u8::MAX));
                let newest = *first.get_or_insert((held, stub));
                let same = match level {
                    0 => newest.0 == held,
                    _ => newest.1 == stub,
                };
                if !same {
                    return Err(format!(
                        "{object:?} in {partition:?}: {newest:?} and {held:?}"
                    ));
                }
                if replica
                    .is_some_and(|r| r.replicas > seat.level && matches!(r.body, ReplicaBody::Stub))
                {
                    return Err(format!("{object:?}: a stub at {seat:?}"));
                }
            }
        }
        Ok(())
    }

    fn judge(mut self) -> Result<Report, Broken> {
        for host in self.hosts.values() {
            if let Some(node) = &host.node
                && node.diverged > 0
            {
                let what = format!("{:?} diverged {} times", node.id, node.diverged);
                return Err(self.broken(what));
            }
        }
        self.images_agree().map_err(|what| self.broken(what))?;
        let clients = std::mem::take(&mut self.clients);
        let dead = clients.values().filter(|client| client.is_dead);
        let dead: Vec<_> = dead.map(|client| client.session.0).collect();
        let mut operations = Vec::new();
        for client in clients.into_values() {
            if let Some(wrong) = client.wrong.first() {
                return Err(self.broken(wrong.clone()));
            }
            operations.extend_from_slice(client.into_history().operations());
        }
        for operation in &mut operations {
            // A call that was executed and repeated, when the object was deleted meanwhile.
            let changes = !matches!(
                operation.input,
                Input::Load | Input::OpenCounter | Input::OpenQueue
            );
            if changes && matches!(operation.answer, Some((Output::Gone, _))) {
                operation.answer = None;
            }
        }
        self.report.operations = operations.len();
        self.report.unanswered = operations.iter().filter(|o| o.answer.is_none()).count();
        self.report.views = self.control.view().version.0;
        self.report.time_ms = self.now_us / MS;
        for object in &self.objects {
            let mine = operations.iter().filter(|o| o.object == object.id).cloned();
            let history: History<_, _, _> = mine.collect();
            let model = Thing {
                dead: dead.clone(),
                loss: self.losses.get(&object.id).copied().unwrap_or(Loss::None),
            };
            if let Err(failure) = Checker::new(&model).steps_max(200_000).check(&history) {
                match failure {
                    Failure::Violation(violation) => {
                        return Err(self.broken(format!("{object:?}\n{violation}")));
                    }
                    // Too many orders to look at.
                    _ => self.report.undecided += 1,
                }
            }
        }
        Ok(self.report)
    }

    /// Whether the replicas are the same, byte by byte.
    fn images_agree(&mut self) -> Result<(), String> {
        let view: Arc<View> = self.control.view().clone();
        for object in self.objects.clone() {
            let configuration = view.configuration(view.partition(&object.id)).clone();
            let mut first = None;
            for seat in &configuration.seats {
                let host = self.hosts.get_mut(&seat.node);
                let Some(node) = host.and_then(|host| host.node.as_mut()) else {
                    continue;
                };
                let Some(replica) = node.objects.get_mut(&object.id) else {
                    continue;
                };
                if matches!(replica.body, ReplicaBody::Lost) {
                    self.report.lost += 1;
                    break;
                }
                if object.replicas > seat.level
                    && let Some(cell) = replica.cell()
                {
                    let image = cell.image().map_err(|error| error.to_string())?;
                    if *first.get_or_insert_with(|| image.clone()) != image {
                        return Err(format!("{object:?} differs: {first:?} and {image:?}"));
                    }
                }
            }
        }
        Ok(())
    }
}

fn objects(random: &mut ChaCha8Rng) -> Vec<Object> {
    let count = random.random_range(3..=6);
    let object = |_| {
        let mut id = [0; 16];
        for byte in &mut id {
            *byte = random.random();
        }
        Object {
            id: ObjectId(id),
            kind: match random.random_range(0..4) {
                0 => Kind::Queue,
                1 => Kind::Lock,
                _ => Kind::Counter,
            },
            replicas: [1, 2, 2, 3][random.random_range(0..4)],
            is_volatile: random.random_range(0..3) == 0,
        }
    };
    (0..count).map(object).collect()
}
