//! A session at a model of a cluster, in random schedules: objects move, connections break, servers learn late.

use std::collections::{BTreeMap, VecDeque};

use crucial_object::ObjectId;
use crucial_proto::frame::{Operation, Request as Heard};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const SERVERS: u64 = 3;
const CALLS: usize = 60;
const SEEDS: u64 = 300;

enum Answer {
    Value(u64, u64),
    Moved(u64, u64),
    Routes(Routes),
}

/// A connection, with what is on its way.
struct Wire {
    number: u64,
    /// The routes that the client has said it has.
    routes: u64,
    to_server: VecDeque<Heard>,
    to_client: VecDeque<Answer>,
}

struct Server {
    routes: Routes,
    /// By which routes the server became the primary of each partition.
    since: [u64; PARTITIONS],
    wire: Option<Wire>,
}

/// A counter. It moves with its records.
#[derive(Default)]
struct Counter {
    value: u64,
    records: BTreeMap<u64, u64>,
    last: u64,
}

struct World {
    session: Session<()>,
    now_ms: u64,
    /// The newest routes, of which not all servers know.
    decided: Routes,
    /// By which routes each partition got its present primary.
    since: [u64; PARTITIONS],
    servers: BTreeMap<u64, Server>,
    objects: BTreeMap<ObjectId, Counter>,
    /// The calls of each object in their order.
    called: BTreeMap<ObjectId, Vec<u64>>,
    executed: BTreeMap<u64, u32>,
    answered: BTreeMap<u64, u64>,
}

fn is_primary(routes: &Routes, node: u64, partition: usize) -> bool {
    routes.primary(partition).is_some_and(|s| s.node == node)
}

impl World {
    fn new() -> World {
        let decided = even_routes(1, SERVERS);
        let server = || Server {
            routes: decided.clone(),
            since: [1; PARTITIONS],
            wire: None,
        };
        World {
            session: session(SERVERS),
            now_ms: 0,
            servers: (1..=SERVERS).map(|node| (node, server())).collect(),
            decided: decided.clone(),
            since: [1; PARTITIONS],
            objects: BTreeMap::new(),
            called: BTreeMap::new(),
            executed: BTreeMap::new(),
            answered: BTreeMap::new(),
        }
    }

    fn hear(&mut self, node: u64, frames: Vec<Heard>) {
        let wire = self.servers.get_mut(&node).unwrap().wire.as_mut();
        match wire {
            Some(wire) => wire.to_server.extend(frames),
            None => assert!(frames.is_empty(), "frames without a connection"),
        }
    }

    fn call(&mut self, object: ObjectId) {
        let call = super::call(&mut self.session, object);
        self.called.entry(object).or_default().push(call.sequence);
        if !call.heard.is_empty() {
            let place = self.session.table().place_of_object(&object).unwrap();
            let node = self.session.table().members()[place].node;
            self.hear(node, call.heard);
        }
    }

    fn connect(&mut self, node: u64) {
        let member = member(node);
        if !self.session.begin_connecting(member) {
            return;
        }
        let introduction = self.session.introduce(member).unwrap();
        let welcome = Welcome {
            routes: self.servers[&node].routes.clone(),
            ..welcome(&self.session, member, true)
        };
        self.take_routes(welcome.routes.clone());
        let mut out = Vec::new();
        let connected =
            self.session
                .on_connected(member, &introduction, &welcome, self.now_ms, &mut out);
        let (number, _) = connected.unwrap();
        self.servers.get_mut(&node).unwrap().wire = Some(Wire {
            number,
            routes: introduction.hello.routes,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
        });
        self.hear(node, heard(&out));
    }

    fn cut(&mut self, node: u64) {
        if let Some(wire) = self.servers.get_mut(&node).unwrap().wire.take() {
            self.session
                .on_disconnected(member(node), wire.number, None, self.now_ms);
        }
    }

    fn take_routes(&mut self, routes: Routes) {
        let Some(table) = self.session.newer_table(routes, "").unwrap() else {
            return;
        };
        let rerouted = self.session.take_table(table, self.now_ms);
        let members = self.session.table().members().to_vec();
        for (member, frames) in members.iter().zip(rerouted.frames) {
            self.hear(member.node, heard(&frames));
        }
    }

    fn decide(&mut self, routes: Routes) {
        for partition in 0..PARTITIONS {
            if routes.primaries[partition] != self.decided.primaries[partition] {
                self.since[partition] = routes.version;
            }
        }
        self.decided = routes;
    }

    /// A server learns of the newest routes, and tells the client.
    fn learn(&mut self, node: u64) {
        let decided = self.decided.clone();
        let server = self.servers.get_mut(&node).unwrap();
        if server.routes.version == decided.version {
            return;
        }
        server.since = self.since;
        server.routes = decided.clone();
        if let Some(wire) = &mut server.wire {
            wire.to_client.push_back(Answer::Routes(decided));
        }
    }

    /// Lets a server take one request; whether there was one that it could take.
    fn serve(&mut self, node: u64) -> bool {
        let server = self.servers.get_mut(&node).unwrap();
        let version = server.routes.version;
        let Some(wire) = server.wire.as_mut() else {
            return false;
        };
        // A server takes nothing by routes that it does not have, and nothing without a lease.
        let has_lost = |partition| {
            is_primary(&server.routes, node, partition)
                && server.since[partition] != self.since[partition]
        };
        if wire.routes > version || (0..PARTITIONS).any(has_lost) {
            return false;
        }
        let Some(heard) = wire.to_server.pop_front() else {
            return false;
        };
        match heard {
            Heard::Routes(version) => {
                assert!(version >= wire.routes, "routes that grow older");
                wire.routes = version;
            }
            Heard::Numbered {
                sequence,
                acked,
                operation: Operation::Call(call),
            } => {
                let calls = self.called.values().flatten();
                let mut acknowledged = calls.filter(|call| **call < acked.0);
                assert!(acknowledged.all(|call| self.answered.contains_key(call)));
                let partition = server.routes.partition(&call.object);
                let is_here = is_primary(&server.routes, node, partition);
                if !is_here || wire.routes < server.since[partition] {
                    wire.to_client.push_back(Answer::Moved(sequence.0, version));
                    return true;
                }
                let counter = self.objects.entry(call.object).or_default();
                if !counter.records.contains_key(&sequence.0) {
                    if counter.last >= sequence.0 {
                        // Its record was acknowledged, and is gone.
                        let is_answered = self.answered.contains_key(&sequence.0);
                        assert!(is_answered, "{} out of order", sequence.0);
                        return true;
                    }
                    counter.last = sequence.0;
                    counter.value += 1;
                    counter.records.insert(sequence.0, counter.value);
                    *self.executed.entry(sequence.0).or_default() += 1;
                }
                let value = counter.records[&sequence.0];
                counter.records.retain(|number, _| *number >= acked.0);
                wire.to_client.push_back(Answer::Value(sequence.0, value));
            }
            _ => {}
        }
        true
    }

    /// Lets the client take one answer; whether there was one.
    fn answer(&mut self, node: u64) -> bool {
        let server = self.servers.get_mut(&node).unwrap();
        let Some(wire) = server.wire.as_mut() else {
            return false;
        };
        let connection = wire.number;
        match wire.to_client.pop_front() {
            None => return false,
            Some(Answer::Value(sequence, value)) => {
                if self
                    .session
                    .on_reply(Sequence(sequence), connection)
                    .is_some()
                {
                    self.answered.insert(sequence, value);
                }
            }
            Some(Answer::Moved(sequence, routes)) => {
                let sequence = Sequence(sequence);
                self.session
                    .on_moved(sequence, connection, routes, self.now_ms);
            }
            Some(Answer::Routes(routes)) => self.take_routes(routes),
        }
        true
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        let due = self.session.due(self.now_ms);
        for node in 1..=SERVERS {
            let mut out = Vec::new();
            if let Some(due) = &due {
                self.session.send_due(due, member(node), &mut out);
            }
            self.hear(node, heard(&out));
        }
        self.session.postpone_due(self.now_ms);
    }

    fn step(&mut self, random: &mut ChaCha8Rng) {
        let node = random.random_range(1..=SERVERS);
        match random.random_range(0..20) {
            0..4 => {
                let calls: usize = self.called.values().map(Vec::len).sum();
                if calls < CALLS {
                    self.call(object(
                        random.random_range(0..PARTITIONS),
                        random.random_range(0..2),
                    ));
                }
            }
            4..10 => drop(self.serve(node)),
            10..15 => drop(self.answer(node)),
            15 => {
                let salt = random.random_range(0..100);
                let members: Vec<Member> = (1..=SERVERS).map(member).collect();
                let version = self.decided.version + 1;
                self.decide(routes(version, &members, |partition| {
                    let place = (partition * 7 + salt) as u64 % (SERVERS + 1);
                    (place < SERVERS).then_some(place + 1)
                }));
                self.learn(node);
            }
            16 => self.learn(node),
            17 => self.cut(node),
            18 => self.connect(node),
            _ => self.pass(random.random_range(0..60)),
        }
    }

    /// Lets everything come to its end, in routes by which each partition has a primary.
    fn finish(&mut self) {
        self.decide(even_routes(self.decided.version + 1, SERVERS));
        let calls: usize = self.called.values().map(Vec::len).sum();
        for _ in 0..200 {
            for node in 1..=SERVERS {
                self.learn(node);
                self.connect(node);
                while self.serve(node) || self.answer(node) {}
            }
            if self.answered.len() == calls {
                return;
            }
            self.pass(50);
        }
        panic!("{} of {calls} calls were answered", self.answered.len());
    }
}

#[test]
fn each_call_takes_effect_once_and_in_order_while_objects_move_and_connections_break() {
    for seed in 0..SEEDS {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut world = World::new();
        for _ in 0..600 {
            world.step(&mut random);
        }
        world.finish();
        assert!(world.executed.values().all(|count| *count == 1), "{seed}");
        for calls in world.called.values() {
            let values = calls.iter().map(|call| world.answered[call]);
            assert!(values.eq(1..=calls.len() as u64), "{seed}");
        }
    }
}
