//! The world around some catalogs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crucial_node::catalog::{Action, ModuleCatalog, ModuleMessage, Peer, Work};
use crucial_node::replication::{
    Command, Control, Incarnation, NodeId, PartitionId, Refusal, View,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

mod checks;
mod clients;
mod faults;
mod objects;
mod report;
mod shape;
mod shell;

use clients::{Request, Wish};
pub use report::Report;
pub use shape::Shape;
use shell::{Module, Shell, Trouble, some_modules};

/// For how long things go wrong.
const FAULTS_MS: u64 = 900;

/// By when all must be well again.
const REST_MS: u64 = 12_000;

const PARTITIONS: usize = 4;

struct Server {
    peer: Peer,
    /// Counts processes; what one has begun is nothing to the next.
    process: u64,
    is_alive: bool,
    catalog: ModuleCatalog,
    shell: Shell,
    is_ticking: bool,
    /// The newest view that this process has taken.
    view: Option<Arc<View>>,
}

enum Event {
    Deliver(Peer, Peer, ModuleMessage),
    Work(NodeId, u64, Work),
    Command(Command),
    View(NodeId, u64, Arc<View>),
    Tick(NodeId, u64),
    Heartbeat,
    Request,
    Objects,
    EndMove(PartitionId, Peer, Peer),
    Fault,
    Expire(Peer),
    Start(NodeId),
}

pub struct World {
    random: ChaCha8Rng,
    shape: Shape,
    now_ms: u64,
    events: BTreeMap<(u64, u64), Event>,
    numbers: u64,
    control: Control,
    history: Vec<Arc<View>>,
    servers: BTreeMap<NodeId, Server>,
    cuts: BTreeSet<(NodeId, NodeId)>,
    modules: Vec<Module>,
    requests: Vec<Request>,
    report: Report,
}

impl World {
    pub fn new(seed: u64, shape: Shape) -> World {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let modules = some_modules(&mut random);
        let mut world = World {
            random,
            shape,
            now_ms: 0,
            events: BTreeMap::new(),
            numbers: 0,
            control: Control::new(PARTITIONS),
            history: Vec::new(),
            servers: BTreeMap::new(),
            cuts: BTreeSet::new(),
            modules,
            requests: Vec::new(),
            report: Report::default(),
        };
        for node in 1..=shape.servers {
            let peer = Peer {
                node: NodeId(node),
                incarnation: Incarnation(1),
            };
            let server = Server {
                peer,
                process: 0,
                is_alive: true,
                catalog: ModuleCatalog::new(peer, shape.limits()),
                shell: Shell::default(),
                is_ticking: false,
                view: None,
            };
            world.servers.insert(peer.node, server);
        }
        world
    }

    /// Runs until all is well again.
    pub fn run(mut self) -> Report {
        self.at(0, Event::Heartbeat);
        for _ in 0..self.shape.requests {
            let at_ms = self.random.random_range(0..=FAULTS_MS);
            self.at(at_ms, Event::Request);
        }
        for _ in 0..self.shape.faults {
            let at_ms = self.random.random_range(0..=FAULTS_MS);
            self.at(at_ms, Event::Fault);
        }
        for _ in 0..40 {
            let at_ms = self.random.random_range(0..=FAULTS_MS);
            self.at(at_ms, Event::Objects);
        }
        let mut is_healed = false;
        while let Some(((at_ms, number), event)) = self.events.pop_first() {
            self.now_ms = at_ms;
            self.report.trace = self.report.trace.wrapping_mul(31) ^ at_ms ^ (number << 20);
            if !is_healed && at_ms > FAULTS_MS + 300 {
                is_healed = true;
                self.heal();
            }
            if is_healed && self.is_at_rest() {
                self.check_rest();
                return self.report;
            }
            assert!(at_ms < REST_MS, "{}", self.why_not_at_rest());
            self.take(event);
        }
        unreachable!("there is always a next heartbeat");
    }

    fn at(&mut self, at_ms: u64, event: Event) {
        self.numbers += 1;
        self.events.insert((at_ms, self.numbers), event);
    }

    fn after(&mut self, delay_ms: u64, event: Event) {
        self.at(self.now_ms + delay_ms, event);
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Deliver(from, to, message) => {
                let is_cut = self.cuts.contains(&(from.node, to.node));
                let server = self.servers.get_mut(&to.node).unwrap();
                if server.is_alive && server.peer == to && !is_cut {
                    server.catalog.on_message(from, message);
                    self.drain(to.node);
                }
            }
            Event::Work(node, process, work) => self.execute(node, process, work),
            Event::Command(command) => self.apply(&command),
            Event::View(node, process, view) => self.take_view(node, process, &view),
            Event::Tick(node, process) => {
                let now_ms = self.now_ms;
                if let Some(server) = self.running(node, process) {
                    server.is_ticking = false;
                    server.catalog.tick(now_ms);
                    self.drain(node);
                }
            }
            Event::Heartbeat => {
                self.after(25, Event::Heartbeat);
                self.heartbeat();
            }
            Event::Request => self.request(),
            Event::Objects => self.change_objects(),
            Event::EndMove(partition, source, target) => {
                self.end_move(partition, source, target);
            }
            Event::Fault => self.fault(),
            Event::Expire(peer) => self.apply(&Command::Expire {
                node: peer.node,
                incarnation: peer.incarnation,
            }),
            Event::Start(node) => self.start(node),
        }
    }

    fn running(&mut self, node: NodeId, process: u64) -> Option<&mut Server> {
        let server = self.servers.get_mut(&node)?;
        (server.is_alive && server.process == process).then_some(server)
    }

    /// Does what a catalog wants.
    fn drain(&mut self, node: NodeId) {
        loop {
            let server = self.servers.get_mut(&node).unwrap();
            server.catalog.check();
            let (peer, process) = (server.peer, server.process);
            let Some(action) = server.catalog.poll_action() else {
                break;
            };
            match action {
                Action::Send(to, message) => self.send(peer, to, &message),
                Action::Start(work) => {
                    let delay_ms = self.random.random_range(0..=self.shape.work_ms);
                    self.after(delay_ms, Event::Work(node, process, work));
                }
                Action::Propose(command) => self.propose(&command),
                Action::Reply(request, reply) => self.answered(request, reply),
            }
        }
        let now_ms = self.now_ms;
        let server = self.servers.get_mut(&node).unwrap();
        if let Some(at_ms) = server.catalog.next_timeout()
            && !server.is_ticking
        {
            server.is_ticking = true;
            let process = server.process;
            self.at(at_ms.max(now_ms + 10), Event::Tick(node, process));
        }
    }

    fn send(&mut self, from: Peer, to: NodeId, message: &ModuleMessage) {
        // Connections are to the servers, in their incarnations, that the sender's view has.
        let view = self.servers[&from.node].view.as_ref();
        let Some(member) = view.and_then(|view| view.members.get(&to)) else {
            return;
        };
        let incarnation = member.incarnation;
        for _ in 0..self.copies() {
            let mut message = message.clone();
            if self.chance(self.shape.damaged)
                && let ModuleMessage::Piece { bytes, .. } = &mut message
            {
                bytes[0] ^= 1;
            }
            let delay_ms = self.random.random_range(0..=self.shape.delay_ms);
            let to = Peer {
                node: to,
                incarnation,
            };
            self.after(delay_ms, Event::Deliver(from, to, message));
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_ratio(percent, 100)
    }

    fn copies(&mut self) -> u64 {
        if self.chance(self.shape.lost) {
            return 0;
        }
        1 + u64::from(self.chance(self.shape.repeated))
    }

    fn propose(&mut self, command: &Command) {
        for _ in 0..self.copies() {
            // Some arrive very late.
            let slow = if self.chance(10) { 10 } else { 1 };
            let delay_ms = self.random.random_range(0..=slow * self.shape.delay_ms);
            self.after(delay_ms, Event::Command(command.clone()));
        }
    }

    fn apply(&mut self, command: &Command) {
        let before = self.control.view().clone();
        if let Err(Refusal::Overtaken { .. }) = self.control.apply(command) {
            self.report.overtaken += 1;
        }
        let view = self.control.view().clone();
        if view.version == before.version {
            return;
        }
        match command {
            Command::Keep { id, replace, .. } => self.check_keep(id, *replace, &before),
            Command::Drop { id, .. } => {
                self.check_drop(id, &before);
                let is_wish = |request: &Request| match request.wish {
                    Wish::Remove { module } => self.modules[module].id == *id,
                    Wish::Push { .. } => false,
                };
                self.report.swept += u64::from(!self.requests.iter().any(is_wish));
            }
            _ => {}
        }
        self.history.push(view.clone());
        let servers: Vec<_> = self
            .servers
            .values()
            .map(|server| (server.peer.node, server.process))
            .collect();
        for (node, process) in servers {
            // Some views are left out.
            if !self.chance(20) {
                let delay_ms = self.random.random_range(0..=2 * self.shape.delay_ms);
                self.after(delay_ms, Event::View(node, process, view.clone()));
            }
        }
    }

    /// The members of a view that run in the incarnation that the view has.
    fn members<'a>(&'a self, view: &'a View) -> impl Iterator<Item = &'a Server> {
        self.servers
            .values()
            .filter(|server| server.is_alive && view.has(server.peer.node, server.peer.incarnation))
    }

    fn take_view(&mut self, node: NodeId, process: u64, view: &Arc<View>) {
        let Some(server) = self.running(node, process) else {
            return;
        };
        let peer = server.peer;
        let is_evicted = !view.has(peer.node, peer.incarnation)
            && view
                .members
                .get(&node)
                .is_none_or(|member| member.incarnation > peer.incarnation)
            && self.was_member(peer, view);
        let server = self.servers.get_mut(&node).unwrap();
        if is_evicted {
            server.peer.incarnation.0 += 1;
            // Its objects belong to other primaries by now.
            server.shell.objects.clear();
            server.catalog.begin(server.peer.incarnation);
            server.view = None;
            self.report.evicted += 1;
        } else {
            server.catalog.on_view(view);
            let is_newer = |known: &Arc<View>| known.version <= view.version;
            if server.view.as_ref().is_none_or(is_newer) {
                server.view = Some(view.clone());
            }
        }
        self.drain(node);
    }

    fn was_member(&self, peer: Peer, view: &View) -> bool {
        let mut earlier = self.history.iter();
        earlier.any(|earlier| {
            earlier.version < view.version && earlier.has(peer.node, peer.incarnation)
        })
    }

    /// Servers that run join, and hear of the newest view.
    fn heartbeat(&mut self) {
        let view = self.control.view().clone();
        let servers: Vec<_> = self
            .servers
            .values()
            .filter(|server| server.is_alive)
            .map(|server| (server.peer, server.process))
            .collect();
        for (peer, process) in servers {
            let member = view.members.get(&peer.node);
            if let Some(member) = member.filter(|member| member.incarnation != peer.incarnation) {
                // The lease of that incarnation ends.
                let incarnation = member.incarnation;
                let node = peer.node;
                let delay_ms = self.random.random_range(20..=100);
                self.after(delay_ms, Event::Expire(Peer { node, incarnation }));
            } else if member.is_none() {
                let join = Command::Join {
                    node: peer.node,
                    incarnation: peer.incarnation,
                    address: format!("host-{}", peer.node.0),
                    lease_ms: 1000,
                };
                self.propose(&join);
            }
            let delay_ms = self.random.random_range(0..=self.shape.delay_ms);
            self.after(delay_ms, Event::View(peer.node, process, view.clone()));
        }
    }

    fn execute(&mut self, node: NodeId, process: u64, work: Work) {
        let is_bad = self.shape.bad_disk == Some(node.0) && self.chance(30);
        let elsewhere = work.module().is_some_and(|module| {
            let mut servers = self.servers.values();
            servers
                .any(|server| server.peer.node != node && server.shell.disk.contains_key(&module))
        });
        let trouble = match is_bad && elsewhere && self.now_ms < FAULTS_MS {
            true => Trouble::Disk,
            false => Trouble::None,
        };
        let modules = self.modules.clone();
        if let Some(server) = self.running(node, process) {
            let done = server.shell.execute(work, trouble, &modules);
            server.catalog.on_done(done);
            self.drain(node);
        }
    }
}
