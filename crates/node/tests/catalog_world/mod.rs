//! The world around some catalogs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crucial_node::catalog::{
    Action, Limits, ModuleCatalog, ModuleId, ModuleMessage, Peer, Push, Reply, RequestId, Work,
};
use crucial_node::replication::{
    Command, Control, Incarnation, NodeId, Refusal, View, ViewVersion,
};
use crucial_object::Error;

mod shell;

use shell::{Module, Shell, Trouble, has_type, hash};

const LIMITS: Limits = Limits {
    repeat_ms: 40,
    patience_ms: 300,
    sweep_ms: 200,
    sweep_pause_ms: 20,
    silence_ms: 60,
    pause_min_ms: 10,
    pause_max_ms: 160,
    piece_bytes: 8,
    pieces: 2,
    fetches: 2,
    requests: 6,
    request_bytes: 400,
    staged_bytes: 1 << 10,
};

/// For how long things go wrong.
const FAULTS_MS: u64 = 900;

/// By when all must be well again.
const REST_MS: u64 = 12_000;

/// How a run is.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    servers: u64,
    /// Of 100 messages and proposals.
    lost: u64,
    repeated: u64,
    damaged: u64,
    patience_ms: u64,
    delay_ms: u64,
    work_ms: u64,
    faults: usize,
    requests: usize,
    /// This server's disk fails now and then.
    bad_disk: Option<u64>,
}

impl Shape {
    pub fn of(seed: u64) -> Shape {
        let mut random = Random(seed ^ 0x5a5a);
        Shape {
            servers: random.between(1, 4),
            lost: [0, 0, 5, 20][random.below(4)],
            repeated: [0, 5, 20][random.below(3)],
            damaged: [0, 0, 2][random.below(3)],
            patience_ms: [300, 2_000, 2_000][random.below(3)],
            delay_ms: [2, 10, 60][random.below(3)],
            work_ms: [2, 20, 80][random.below(3)],
            faults: [0, 2, 5][random.below(3)],
            requests: random.between(4, 16) as usize,
            bad_disk: random.chance(20).then_some(2),
        }
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.next() % (last - first + 1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

struct Server {
    peer: Peer,
    /// Counts processes; what one has begun is nothing to the next.
    process: u64,
    is_alive: bool,
    catalog: ModuleCatalog,
    shell: Shell,
    is_ticking: bool,
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
    Fault,
    Expire(Peer),
    Start(NodeId),
}

enum Wish {
    Push {
        module: usize,
        replace: bool,
        check: bool,
    },
    Remove {
        module: usize,
    },
}

struct Request {
    node: NodeId,
    process: u64,
    wish: Wish,
    /// The newest view that its server knew then.
    seen: ViewVersion,
    answer: Option<Reply>,
}

/// What has happened in a run, or in several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// A checksum of the schedule.
    pub trace: u64,
    pub pushed: u64,
    pub moved: u64,
    pub refused: u64,
    pub unavailable: u64,
    pub removed: u64,
    /// Modules that went because others had replaced them.
    pub swept: u64,
    pub evicted: u64,
    /// Commands that rested on an older view.
    pub overtaken: u64,
}

impl Report {
    pub fn add(&mut self, other: Report) {
        self.trace = self.trace.wrapping_mul(31) ^ other.trace;
        self.pushed += other.pushed;
        self.moved += other.moved;
        self.refused += other.refused;
        self.unavailable += other.unavailable;
        self.removed += other.removed;
        self.swept += other.swept;
        self.evicted += other.evicted;
        self.overtaken += other.overtaken;
    }
}

pub struct World {
    random: Random,
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
        let mut random = Random(seed);
        let modules = modules(&mut random);
        let mut world = World {
            random,
            shape,
            now_ms: 0,
            events: BTreeMap::new(),
            numbers: 0,
            control: Control::new(2),
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
                catalog: ModuleCatalog::new(peer, limits(shape)),
                shell: Shell::default(),
                is_ticking: false,
            };
            world.servers.insert(peer.node, server);
        }
        world
    }

    /// Runs until all is well again.
    pub fn run(mut self) -> Report {
        self.at(0, Event::Heartbeat);
        for _ in 0..self.shape.requests {
            let at_ms = self.random.between(0, FAULTS_MS);
            self.at(at_ms, Event::Request);
        }
        for _ in 0..self.shape.faults {
            let at_ms = self.random.between(0, FAULTS_MS);
            self.at(at_ms, Event::Fault);
        }
        for _ in 0..20 {
            let at_ms = self.random.between(0, FAULTS_MS);
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
                    let delay_ms = self.random.between(0, self.shape.work_ms);
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
        let view = self.control.view();
        let Some(member) = view.members.get(&to) else {
            return;
        };
        let incarnation = member.incarnation;
        for _ in 0..self.copies() {
            let mut message = message.clone();
            if self.random.chance(self.shape.damaged)
                && let ModuleMessage::Piece { bytes, .. } = &mut message
            {
                bytes[0] ^= 1;
            }
            let delay_ms = self.random.between(0, self.shape.delay_ms);
            let to = Peer {
                node: to,
                incarnation,
            };
            self.after(delay_ms, Event::Deliver(from, to, message));
        }
    }

    fn copies(&mut self) -> u64 {
        if self.random.chance(self.shape.lost) {
            return 0;
        }
        1 + u64::from(self.random.chance(self.shape.repeated))
    }

    fn propose(&mut self, command: &Command) {
        for _ in 0..self.copies() {
            // Some arrive very late.
            let slow = if self.random.chance(10) { 10 } else { 1 };
            let delay_ms = self.random.between(0, slow * self.shape.delay_ms);
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
            if !self.random.chance(20) {
                let delay_ms = self.random.between(0, 2 * self.shape.delay_ms);
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

    fn check_keep(&self, id: &ModuleId, replace: bool, before: &View) {
        for server in self.members(before) {
            assert!(
                server.shell.code.contains(id) && server.shell.disk.contains_key(id),
                "a member does not have a module that comes into the view"
            );
        }
        let module = shell::find(&self.modules, id);
        assert!(
            module.is_valid,
            "what is refused does not come into the view"
        );
        let mut others = before.modules.iter().filter(|kept| kept.id != *id);
        let shares_type = |kept: &crucial_node::replication::KeptModule| {
            let mut types = module.types.iter();
            types.any(|kind| has_type(&self.modules, &kept.id, *kind))
        };
        assert!(
            replace || !others.any(shares_type),
            "a type is replaced without leave"
        );
    }

    fn check_drop(&self, id: &ModuleId, before: &View) {
        for server in self.members(before) {
            let shell = &server.shell;
            let lives = shell.objects.iter().any(|object| object.module == *id);
            assert!(!lives, "a module is dropped that has objects");
            for kind in 0..TYPES {
                let of = shell.module_of(kind, &self.modules);
                assert_ne!(of, Some(*id), "a module is dropped that gets objects");
            }
        }
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
            self.report.evicted += 1;
        } else {
            server.catalog.on_view(view);
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
                let delay_ms = self.random.between(20, 100);
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
            let delay_ms = self.random.between(0, self.shape.delay_ms);
            self.after(delay_ms, Event::View(peer.node, process, view.clone()));
        }
    }

    fn execute(&mut self, node: NodeId, process: u64, work: Work) {
        let is_bad = self.shape.bad_disk == Some(node.0) && self.random.chance(30);
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

    fn request(&mut self) {
        let alive: Vec<_> = self
            .servers
            .values()
            .filter(|server| server.is_alive)
            .collect();
        if alive.is_empty() {
            return;
        }
        let index = self.random.below(alive.len());
        let server = alive[index];
        let (node, process) = (server.peer.node, server.process);
        let seen = self.seen_by(server);
        let module = self.random.below(self.modules.len());
        let wish = match self.random.chance(30) {
            true => Wish::Remove { module },
            false => Wish::Push {
                module,
                replace: self.random.chance(60),
                check: self.random.chance(15),
            },
        };
        let request = RequestId(self.requests.len() as u64);
        let Module { id, bytes, .. } = self.modules[module].clone();
        let push = match &wish {
            Wish::Push { replace, check, .. } => Some(Push {
                module: id,
                bytes,
                replace: *replace,
                check: *check,
            }),
            Wish::Remove { .. } => None,
        };
        self.requests.push(Request {
            node,
            process,
            wish,
            seen,
            answer: None,
        });
        let server = self.servers.get_mut(&node).unwrap();
        match push {
            Some(push) => server.catalog.push(request, push),
            None => server.catalog.remove(request, id),
        }
        self.drain(node);
    }

    /// A view that a server knows surely, as it has installed what that has.
    fn seen_by(&self, server: &Server) -> ViewVersion {
        let installed = &server.shell.order.modules;
        let has = |view: &&Arc<View>| {
            let mut modules = view.modules.iter();
            modules.all(|kept| installed.contains(&kept.id))
        };
        let seen = self.history.iter().filter(has).map(|view| view.version);
        seen.min().unwrap_or_default()
    }

    fn answered(&mut self, id: RequestId, reply: Reply) {
        let request = &mut self.requests[id.0 as usize];
        assert!(request.answer.is_none(), "a request has two answers");
        request.answer = Some(reply.clone());
        let request = &self.requests[id.0 as usize];
        match &reply {
            Reply::Pushed(Ok(pushed)) => {
                self.report.pushed += 1;
                self.report.moved += pushed.moved;
            }
            Reply::Removed(Ok(was_there)) => self.report.removed += u64::from(*was_there),
            Reply::Pushed(Err(Error::Refused { .. }))
            | Reply::Removed(Err(Error::Refused { .. })) => {
                self.report.refused += 1;
            }
            Reply::Pushed(Err(_)) | Reply::Removed(Err(_)) => self.report.unavailable += 1,
        }
        let seen = request.seen;
        let later = || self.history.iter().filter(|view| view.version >= seen);
        match (&request.wish, reply) {
            (Wish::Push { module, check, .. }, Reply::Pushed(Ok(pushed))) => {
                let module = &self.modules[*module];
                assert!(module.is_valid);
                assert_eq!(pushed.module.id, module.id);
                if !check {
                    self.check_pushed(&module.id);
                }
            }
            (Wish::Remove { module }, Reply::Removed(Ok(_))) => {
                let id = self.modules[*module].id;
                let is_absent = |view: &Arc<View>| view.modules.iter().all(|kept| kept.id != id);
                assert!(
                    later().any(is_absent) || self.history.is_empty(),
                    "it is still there"
                );
            }
            (Wish::Push { .. }, Reply::Pushed(Err(error)))
            | (Wish::Remove { .. }, Reply::Removed(Err(error))) => {
                let is_known = matches!(error, Error::Refused { .. } | Error::Unavailable { .. });
                assert!(is_known, "{error}");
            }
            (_, reply) => panic!("{reply:?} answers something else"),
        }
    }

    /// A client was told that a module is everywhere.
    fn check_pushed(&self, id: &ModuleId) {
        let place = |view: &View| {
            let mut modules = view.modules.iter();
            modules.find(|kept| kept.id == *id).map(|kept| kept.since)
        };
        assert!(
            self.history.iter().any(|view| place(view).is_some()),
            "a client was told of a module that no view has had"
        );
        let present = self.control.view();
        // Else it was dropped meanwhile.
        let Some(since) = place(present) else { return };
        let first = self.history.iter().find(|view| view.version == since);
        for server in self.members(present) {
            let was_member =
                first.is_some_and(|view| view.has(server.peer.node, server.peer.incarnation));
            assert!(
                !was_member || server.shell.installed.contains(id),
                "a client was told of a module that a member has not installed"
            );
        }
    }

    fn change_objects(&mut self) {
        let kind = self.random.below(TYPES as usize) as u8;
        let (is_stubborn, makes) = (self.random.chance(10), self.random.chance(60));
        let index = self.random.below(self.servers.len());
        let modules = self.modules.clone();
        let server = self.servers.values_mut().nth(index).unwrap();
        let view = self.control.view();
        if !server.is_alive || !view.has(server.peer.node, server.peer.incarnation) {
            return;
        }
        // An object that comes from another server may need any module.
        let wanted = self.modules[usize::from(kind)].id;
        server.catalog.want(&wanted);
        match makes {
            true => server.shell.make_object(kind, is_stubborn, &modules),
            false => drop(server.shell.objects.pop()),
        }
        let node = server.peer.node;
        self.drain(node);
    }

    fn fault(&mut self) {
        let nodes: Vec<_> = self.servers.keys().copied().collect();
        let node = nodes[self.random.below(nodes.len())];
        let other = nodes[self.random.below(nodes.len())];
        match self.random.below(6) {
            0 | 1 => self.kill(node),
            2 => {
                let peer = self.servers[&node].peer;
                self.after(0, Event::Expire(peer));
            }
            3 => {
                self.cuts.insert((node, other));
            }
            4 => self.cuts.clear(),
            _ => nodes.into_iter().for_each(|node| self.kill(node)),
        }
    }

    fn kill(&mut self, node: NodeId) {
        let server = self.servers.get_mut(&node).unwrap();
        if !server.is_alive {
            return;
        }
        server.is_alive = false;
        server.shell.end_process();
        let peer = server.peer;
        let expire_ms = self.random.between(20, 150);
        self.after(expire_ms, Event::Expire(peer));
        let start_ms = self.random.between(10, 400);
        self.after(start_ms, Event::Start(node));
    }

    fn start(&mut self, node: NodeId) {
        let server = self.servers.get_mut(&node).unwrap();
        if server.is_alive {
            return;
        }
        server.is_alive = true;
        server.process += 1;
        server.peer.incarnation.0 += 1;
        server.catalog = ModuleCatalog::new(server.peer, limits(self.shape));
        server.is_ticking = false;
        // A new catalog does not know the time.
        server.catalog.tick(self.now_ms);
        self.drain(node);
    }

    /// Nothing goes wrong from here on.
    fn heal(&mut self) {
        self.cuts.clear();
        (self.shape.lost, self.shape.repeated, self.shape.damaged) = (0, 0, 0);
        for node in self.servers.keys().copied().collect::<Vec<_>>() {
            self.start(node);
        }
    }

    fn is_at_rest(&self) -> bool {
        let view = self.control.view();
        let is_well = |server: &Server| {
            view.has(server.peer.node, server.peer.incarnation)
                && server.catalog.is_at_rest()
                && server.catalog.kept().count() == view.modules.len()
        };
        let is_going_on = |event: &Event| {
            matches!(
                event,
                Event::Command(_) | Event::Work(..) | Event::Expire(_)
            )
        };
        self.servers.values().all(is_well) && !self.events.values().any(is_going_on)
    }

    fn why_not_at_rest(&self) -> String {
        let view = self.control.view();
        let servers = self.servers.values().map(|server| {
            let is_member = view.has(server.peer.node, server.peer.incarnation);
            format!("{:?} {is_member} {:#?}\n", server.peer, server.catalog)
        });
        format!("not at rest: {}", servers.collect::<String>())
    }

    fn check_rest(&self) {
        let view = self.control.view();
        let kept: Vec<_> = view.modules.iter().map(|kept| kept.id).collect();
        let sorted: BTreeSet<_> = kept.iter().copied().collect();
        for server in self.servers.values() {
            let shell = &server.shell;
            assert_eq!(shell.order.modules, kept, "the types are the view's");
            assert!(shell.order.retired.is_empty(), "nothing stays retired");
            let stored: BTreeSet<_> = shell.disk.keys().copied().collect();
            assert_eq!(stored, sorted, "the disk has the view's modules");
            assert!(shell.code.is_superset(&sorted), "all code is here");
        }
        for (index, request) in self.requests.iter().enumerate() {
            let process = self.servers[&request.node].process;
            let is_lost = request.process != process;
            assert!(request.answer.is_some() || is_lost, "no answer to {index}");
        }
        self.check_refused();
    }

    /// No view had a module that all were refused to push.
    fn check_refused(&self) {
        for (index, module) in self.modules.iter().enumerate() {
            let mut pushes = self.requests.iter().filter(
                |request| matches!(request.wish, Wish::Push { module, .. } if module == index),
            );
            let was_refused = |request: &Request| {
                let is_check = matches!(request.wish, Wish::Push { check: true, .. });
                is_check
                    || matches!(
                        request.answer,
                        Some(Reply::Pushed(Err(Error::Refused { .. })))
                    )
            };
            if pushes.all(was_refused) {
                let has = |view: &Arc<View>| view.modules.iter().any(|kept| kept.id == module.id);
                assert!(!self.history.iter().any(has), "a refused module is kept");
            }
        }
    }
}

fn limits(shape: Shape) -> Limits {
    Limits {
        patience_ms: shape.patience_ms,
        ..LIMITS
    }
}

/// Types of objects.
const TYPES: u8 = 4;

fn modules(random: &mut Random) -> Vec<Module> {
    let module = |number: u8| {
        let length = random.between(1, 60) as usize;
        let mut bytes = vec![number; length];
        bytes[0] = number;
        let first = random.below(TYPES as usize) as u8;
        let mut types = vec![first];
        if random.chance(40) {
            types.push((first + 1) % TYPES);
        }
        Module {
            id: hash(&bytes),
            bytes: bytes.into(),
            types,
            is_valid: !random.chance(12),
        }
    };
    (0..5).map(module).collect()
}
