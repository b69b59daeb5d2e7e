//! The world of one run: who there is, and what happens.

use std::collections::{BTreeMap, BTreeSet};

use crucial_node::Outputs;
use crucial_node::replication::{Control, Incarnation, NodeId, View};
use crucial_object::{ObjectId, SessionId};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::caller::Caller;
use crate::client::Client;
use crate::control::ControlGroup;
use crate::event::{ClientEvent, Event, ProcessEvent};
use crate::events::{Clock, DRIFT, Events, MS};
use crate::fault::{Fault, Kind};
use crate::model::Loss;
use crate::modules;
use crate::objects::{Object, objects, uploaded_objects};
use crate::process::{Disk, LEASE_MS, Process, Settings};
use crate::pushes::ModuleRequest;
use crate::stream::Stream;
use crate::thread::CloudThread;

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
    /// Clients that said goodbye and began anew.
    pub anew: usize,
    /// Clients that went on after a server had ended their session.
    pub resumed: usize,
    /// Attempts of cloud threads.
    pub attempts: usize,
    /// Cloud threads that were cancelled.
    pub cancels: usize,
    pub views: u64,
    pub lost: usize,
    /// Objects whose histories have too many orders to look at.
    pub undecided: usize,
    pub time_ms: u64,
    /// Messages between servers in one second, at most.
    pub messages_max: usize,
    /// Modules that were pushed.
    pub pushes: usize,
    /// Modules that were removed.
    pub removals: usize,
}

/// In one of this number of schedules with overlapping faults clients push modules.
pub const MODULES_IN: u64 = 4;

/// How often a node says to the control group that it lives.
const HEARTBEAT_MS: u64 = LEASE_MS / 4;

pub struct Host {
    pub process: Option<Box<Process>>,
    pub clock: Clock,
    pub is_leaving: bool,
    /// The process does nothing until then; events wait.
    pub paused_until: u64,
    /// The machine is off: no kernel says that the process is gone.
    pub is_off: bool,
    pub disk: Disk,
    /// The term of the leader of the control group that it follows.
    pub leader: u64,
    /// How many heartbeats have had no answer.
    pub unanswered: u32,
}

pub struct World {
    pub seed: u64,
    pub random: ChaCha8Rng,
    pub settings: Settings,
    pub now_us: u64,
    pub events: Events<Event>,
    pub hosts: BTreeMap<NodeId, Host>,
    pub clients: BTreeMap<SessionId, Client>,
    /// The number of the last process of a client.
    last_client: u64,
    pub threads: Vec<CloudThread>,
    pub objects: Vec<Object>,
    pub control: ControlGroup,
    /// What goes wrong now.
    pub faults: BTreeMap<u64, Fault>,
    /// The number of the last fault.
    pub last_fault: u64,
    pub kind: Kind,
    /// From the one to the other takes long.
    pub slow: BTreeSet<(u64, u64)>,
    pub loss_per_mille: u64,
    pub calm_since: u64,
    pub report: Report,
    pub trace: bool,
    /// Incarnations of nodes, of all of them.
    incarnations: u64,
    /// Links between nodes that there were.
    pub links: u64,
    /// Connections of clients.
    pub streams: BTreeMap<u64, Stream>,
    /// The number of the last of them.
    pub last_stream: u64,
    /// Jobs that took their time.
    pub jobs: u64,
    /// Sessions that have lost what they held, as they were silent for too long.
    pub lapsed: BTreeSet<SessionId>,
    /// What deaths have done to objects.
    pub losses: BTreeMap<ObjectId, Loss>,
    /// At which events nobody was left who knew of an object.
    pub forgotten: BTreeSet<(ObjectId, u64)>,
    /// Requests about modules that were answered.
    pub module_requests: Vec<ModuleRequest>,
    /// Views that have other modules than those before them.
    pub module_views: Vec<View>,
    /// Changes that came out differently at a backup, in processes that have ended.
    pub divergences: usize,
    pub outputs: Outputs,
    /// A second, and how many messages servers have sent in it.
    messages: (u64, usize),
}

impl World {
    pub fn new(seed: u64, kind: Kind, trace: bool) -> World {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let settings = Settings {
            // In a single one all requests wait for each other.
            partitions: match kind {
                Kind::OneFault => 4,
                Kind::Overlapping => [1, 4][random.random_range(0..2)],
            },
            parked_calls_max: [1, 2, 100][random.random_range(0..3)],
            waiting_requests_max: [2, 100, 100][random.random_range(0..3)],
            queued_calls_max: [1, 100, 100][random.random_range(0..3)],
            unacknowledged_max: [2, 100, 100][random.random_range(0..3)],
            min_replicas: match kind {
                Kind::OneFault => 1,
                Kind::Overlapping => [1, 1, 2][random.random_range(0..3)],
            },
            client_lease_ms: LEASE_MS
                * match kind {
                    Kind::OneFault => 6,
                    Kind::Overlapping => [1, 2, 6][random.random_range(0..3)],
                },
            hash_seed: seed,
            has_modules: kind == Kind::Overlapping && seed.is_multiple_of(MODULES_IN),
        };
        // Where all have three, all wait for the same nodes.
        let replicas = match kind {
            Kind::Overlapping if random.random_range(0..3) == 0 => [3; 4],
            _ => [1, 2, 2, 3],
        };
        let mut objects = objects(&mut random, replicas);
        if settings.has_modules {
            modules::forget_all();
            objects.extend(uploaded_objects(&mut random, replicas));
        }
        let rate = random_rate(&mut random);
        let control = ControlGroup::new(Control::new(settings.partitions), &mut random, rate);
        let mut world = World {
            seed,
            settings,
            now_us: 0,
            events: Events::new(),
            hosts: BTreeMap::new(),
            clients: BTreeMap::new(),
            last_client: 0,
            threads: Vec::new(),
            objects,
            control,
            faults: BTreeMap::new(),
            last_fault: 0,
            kind,
            slow: BTreeSet::new(),
            loss_per_mille: [0, 0, 10, 50][random.random_range(0..4)],
            calm_since: 0,
            report: Report::default(),
            trace,
            incarnations: 0,
            links: 0,
            streams: BTreeMap::new(),
            last_stream: 0,
            jobs: 0,
            lapsed: BTreeSet::new(),
            losses: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            module_requests: Vec::new(),
            module_views: Vec::new(),
            divergences: 0,
            outputs: Outputs::new(),
            messages: (0, 0),
            random,
        };
        for node in 1..=world.random.random_range(3..=4) {
            world.start(NodeId(node));
        }
        let clients = world.random.random_range(3..=5);
        let requests = 40;
        for _ in 0..clients {
            world.begin_client(requests);
        }
        world.add_threads();
        for (session, client) in &mut world.clients {
            // The run of an owner that has ended is over.
            client.goes_on |= !world.threads.is_empty() && session.0 == 1;
        }
        world.after(0, Event::ControlTick);
        world.after(3_000 * MS, Event::Fault);
        world
    }

    /// A client with a session of its own begins.
    pub fn begin_client(&mut self, requests: usize) {
        let session = self.next_client();
        let caller = Caller::new(session, self.random.random());
        let mut client = Client::new(session, requests, caller);
        client.goes_on = self.random.random();
        self.add_client(client);
    }

    pub fn next_client(&mut self) -> SessionId {
        self.last_client += 1;
        SessionId(self.last_client)
    }

    pub fn add_client(&mut self, client: Client) {
        let begin = Event::Client(client.session, ClientEvent::Tick);
        self.clients.insert(client.session, client);
        self.after(500 * MS, begin);
    }

    pub fn rate(&mut self) -> u64 {
        random_rate(&mut self.random)
    }

    pub fn after(&mut self, delay_us: u64, event: Event) {
        self.events.add(self.now_us + delay_us, event);
    }

    pub fn next_incarnation(&mut self) -> Incarnation {
        self.incarnations += 1;
        Incarnation(self.incarnations)
    }

    /// A node's process starts, with nothing in memory.
    pub fn start(&mut self, id: NodeId) {
        let began = self.next_incarnation();
        let clock = Clock {
            per_mille: self.rate(),
            offset_ms: self.random.random_range(0..1_000_000),
        };
        let process = Process::new(id, began, &self.settings);
        let host = self.hosts.entry(id).or_insert_with(|| Host {
            process: None,
            clock,
            is_leaving: false,
            paused_until: 0,
            is_off: false,
            disk: Disk::new(),
            leader: 0,
            unanswered: 0,
        });
        host.process = Some(Box::new(process));
        host.is_off = false;
        host.is_leaving = false;
        self.begin_incarnation(id, began);
        self.after(0, Event::Process(id, began, ProcessEvent::Heartbeat));
    }

    /// Runs it to its end.
    pub fn run(mut self) -> Result<Report, Broken> {
        const STEPS_MAX: u64 = 2_000_000;
        while let Some((at_us, event)) = self.events.next() {
            self.now_us = at_us;
            let is_look = matches!(event, Event::ControlTick);
            self.handle(event);
            if is_look && self.is_finished() {
                return self.judge();
            }
            if self.now_us > 600_000 * MS || self.events.count > STEPS_MAX {
                return Err(self.broken(self.what_is_missing()));
            }
        }
        Err(self.broken("no events".to_owned()))
    }

    fn what_is_missing(&self) -> String {
        let clients = self.clients.values();
        let waiting: Vec<_> = clients.filter_map(Client::waits_for).collect();
        format!(
            "no end after {} s; clients wait for {waiting:?}; whole: {}; the dead hold something: {}; replicas: {:?}; {} events wait",
            self.now_us / MS / 1000,
            self.is_whole(),
            self.dead_hold_something(),
            self.replicas_agree(),
            self.events.len(),
        )
    }

    pub fn broken(&self, what: String) -> Broken {
        Broken {
            seed: self.seed,
            what,
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::ToNode(id, ..) | Event::Process(id, ..)
                if let Some(until) = self.paused_until(id) =>
            {
                // The event waits, in the order in which it came.
                self.after(until - self.now_us, event);
            }
            Event::ToNode(id, incarnation, packet) => self.at_node(id, incarnation, packet),
            Event::Process(id, began, event) => {
                if self
                    .process(id)
                    .is_some_and(|process| process.began == began)
                {
                    self.on_process(id, began, event);
                }
            }
            Event::ToControl(_, term, _) | Event::Leader(term, _)
                if let Some(until) = self.leader_paused_until(term) =>
            {
                self.after(until - self.now_us, event);
            }
            Event::ToControl(from, term, packet) => self.at_leader(term, from, packet),
            Event::Leader(term, event) => self.on_leader(term, event),
            Event::Elect => self.elect(),
            Event::Flow(stream, direction) => self.flow(stream, direction),
            Event::Client(id, event) => self.on_client(id, event),
            Event::ControlTick => self.tick_control(),
            Event::Fault => self.tick_faults(),
            Event::Threads => self.tick_threads(),
            Event::Heal(number) => {
                self.trace(|| format!("fault {number} ends"));
                self.faults.remove(&number);
                self.calm_since = self.now_us;
            }
            Event::Start(id) => {
                self.trace(|| format!("start {id:?}"));
                self.start(id);
            }
        }
    }

    fn on_process(&mut self, id: NodeId, began: Incarnation, event: ProcessEvent) {
        match event {
            ProcessEvent::Heartbeat => {
                self.send_heartbeat(id);
                self.after(HEARTBEAT_MS * MS, Event::Process(id, began, event));
            }
            ProcessEvent::Wake(at) => self.wake(id, at),
            ProcessEvent::Execute(number) => self.execute(id, number),
            ProcessEvent::Complete(number) => self.complete(id, number),
            ProcessEvent::Work(number, work) => {
                self.trace(|| format!("{id:?} ends work {number}: {work:?}"));
                self.end_work(id, work);
            }
            ProcessEvent::Incarnate => {
                let incarnation = self.next_incarnation();
                self.begin_incarnation(id, incarnation);
            }
        }
    }

    /// A server has sent a message to another.
    pub fn count_message(&mut self) {
        let second = self.now_us / (1000 * MS);
        let (last, count) = self.messages;
        let count = if last == second { count + 1 } else { 1 };
        self.messages = (second, count);
        self.report.messages_max = self.report.messages_max.max(count);
    }

    pub fn trace(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:>8} ms  {}", self.now_us / MS, what());
        }
    }

    pub fn process(&self, id: NodeId) -> Option<&Process> {
        self.hosts.get(&id)?.process.as_deref()
    }

    pub fn tick_client(&mut self, id: SessionId) {
        let now = self.now();
        let stream = self.next_stream();
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if !client.caller.has_begun() {
            client.caller.start(stream);
        } else if self.random.random_range(0..20) == 0 {
            // Now and then it asks elsewhere than at the servers that it knows.
            client.caller.probe(stream);
        }
        // A client that reaches one node would wait for the end of the fault with its first request to another one.
        let mut objects = self.objects.clone();
        let parted = self.faults.values().find_map(|fault| fault.parted.get(&id));
        if let Some(node) = parted {
            objects.retain(|object| client.is_at(&object.id, *node));
        }
        let objects = match objects.is_empty() || client.is_exactly_once() {
            true => &self.objects,
            false => &objects,
        };
        client.tick(now, objects, &mut self.random);
        if self.settings.has_modules && client.may_push() {
            client
                .pushes
                .tick(&mut client.caller, now, &mut self.random);
        }
        self.after_client(id);
        let delay_us = self.random.random_range(20..400) * MS;
        self.after(delay_us, Event::Client(id, ClientEvent::Tick));
    }

    /// Until when a node's process does nothing, if it is paused.
    pub fn paused_until(&self, id: NodeId) -> Option<u64> {
        let until = self.hosts.get(&id)?.paused_until;
        (until > self.now_us).then_some(until)
    }

    /// Until when a leader of the control group does nothing, if it is paused.
    fn leader_paused_until(&mut self, term: u64) -> Option<u64> {
        let until = self.control.leader(term)?.paused_until;
        (until > self.now_us).then_some(until)
    }

    /// Whether a node's machine is off: nothing answers there.
    pub fn is_off(&self, id: NodeId) -> bool {
        self.hosts.get(&id).is_some_and(|host| host.is_off)
    }
}

fn random_rate(random: &mut ChaCha8Rng) -> u64 {
    random.random_range(1000 - DRIFT / 2..=1000 + DRIFT / 2)
}
