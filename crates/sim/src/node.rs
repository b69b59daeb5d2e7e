//! A server, in one thread: the state machines of the cluster around objects in a map.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crucial_cluster::{
    Action, Body, Checksum, Entry, Gate, Grant, Held, Home, Incarnation, Lease, Lifecycle, Message,
    NodeId, Origin, Partition, PartitionId, Replica, Timing, View, change_of,
};
use crucial_core::{Admission, Call, CallId, Cell, Change, Disposition, Recording, Replies, Turn};
use crucial_object::{Error, MethodId, ObjectId, Result, Sequence, SessionId, TypeInfo, registry};

use crate::wire::{Ask, Body as WireBody, Packet, Reply, Request};
use crate::world::Settings;

/// Whom a node sends something.
pub enum Effect {
    /// Another node.
    Node(NodeId, Incarnation, Packet),
    /// The control group.
    Control(Packet),
    /// A client.
    Client(SessionId, Reply),
}

/// A server.
pub struct Node {
    pub id: NodeId,
    pub incarnation: Incarnation,
    settings: Settings,
    view: Arc<View>,
    lease: Lease,
    partitions: Vec<Partition<Answer>>,
    pub objects: BTreeMap<ObjectId, Replica>,
    /// Requests that wait until a partition is served.
    waiting: BTreeMap<PartitionId, Vec<Request>>,
    /// Answers that wait for a lease.
    withheld: Vec<Answer>,
    /// When each session was heard last.
    heard_ms: BTreeMap<SessionId, u64>,
    /// Sessions that have ended: nothing is executed in their names.
    ended: BTreeSet<SessionId>,
    /// The lowest sequence that each session still waits for.
    acked: BTreeMap<SessionId, Sequence>,
    heartbeat_ms: u64,
    pub is_leaving: bool,
    is_over: bool,
    /// Changes that came out differently here.
    pub diverged: u64,
}

type Answer = (SessionId, Reply);

/// A client that was silent for so many leases of a server has died.
const SESSION_LEASES: u64 = 6;

/// So few that records are dropped in every run.
const RECORDS_MIN: usize = 2;

impl Node {
    pub fn new(id: NodeId, incarnation: Incarnation, settings: Settings) -> Node {
        let timing = Timing {
            repeat_ms: settings.lease_ms / 5,
            silence_ms: settings.lease_ms * 4,
            window: 4,
            batch: 8,
        };
        let partition = |index| {
            Partition::new(
                PartitionId(index),
                (id, incarnation),
                settings.replicas_max,
                timing,
            )
        };
        Node {
            id,
            incarnation,
            settings,
            view: Arc::new(View::new(settings.partitions)),
            lease: Lease::default(),
            partitions: (0..settings.partitions as u16).map(partition).collect(),
            objects: BTreeMap::new(),
            waiting: BTreeMap::new(),
            withheld: Vec::new(),
            heard_ms: BTreeMap::new(),
            ended: BTreeSet::new(),
            acked: BTreeMap::new(),
            heartbeat_ms: 0,
            is_leaving: false,
            is_over: false,
            diverged: 0,
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        if now_ms >= self.heartbeat_ms {
            self.heartbeat_ms = now_ms + self.settings.lease_ms / 4;
            let packet = Packet::Heartbeat {
                node: self.id,
                incarnation: self.incarnation,
                sent_ms: now_ms,
                leaving: self.is_leaving,
            };
            effects.push(Effect::Control(packet));
        }
        for index in 0..self.partitions.len() {
            let mut actions = Vec::new();
            let view = self.view.clone();
            self.partitions[index].tick(&view, now_ms, &mut actions);
            self.act(PartitionId(index as u16), actions, now_ms, effects);
        }
        self.release(now_ms, effects);
        self.end_sessions(now_ms, effects);
    }

    fn hear(&mut self, client: SessionId, now_ms: u64) {
        if !self.ended.contains(&client) {
            self.heard_ms.insert(client, now_ms);
        }
    }

    /// Ends the sessions that were silent for too long. Without a lease it was perhaps not to be heard.
    fn end_sessions(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        if !self.has_lease(now_ms) {
            return;
        }
        let silent_ms = self.settings.lease_ms * SESSION_LEASES;
        let heard = self.heard_ms.iter();
        let lapsed: Vec<_> = heard
            .filter(|(_, heard_ms)| now_ms.saturating_sub(**heard_ms) > silent_ms)
            .map(|(session, _)| *session)
            .collect();
        for session in lapsed {
            self.heard_ms.remove(&session);
            self.ended.insert(session);
            let objects: Vec<_> = self.objects.keys().copied().collect();
            for object in objects {
                self.end_session(session, object, now_ms, effects);
            }
        }
    }

    fn end_session(
        &mut self,
        session: SessionId,
        object: ObjectId,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) {
        let id = PartitionId::of(&object, self.settings.partitions);
        let partition = &mut self.partitions[id.index()];
        let Some(replica) = self.objects.get_mut(&object) else {
            return;
        };
        if partition.gate(self.view.version) != Gate::Serve
            || !replica.sessions().contains(&session)
        {
            return;
        }
        let mut actions = Vec::new();
        change(
            partition,
            object,
            replica,
            &Change::Lapse(session),
            &mut actions,
        );
        partition.issue(now_ms, &mut actions);
        self.act(id, actions, now_ms, effects);
    }

    /// The sessions that concern objects which it begins to serve: they have a whole lease to turn up.
    fn take_over_sessions(&mut self, id: PartitionId, now_ms: u64) {
        let count = self.settings.partitions;
        let objects = self.objects.iter();
        let sessions: Vec<_> = objects
            .filter(|(object, _)| PartitionId::of(object, count) == id)
            .flat_map(|(_, replica)| replica.sessions())
            .collect();
        for session in sessions {
            // One that has ended here has not ended there.
            self.ended.remove(&session);
            self.heard_ms.entry(session).or_insert(now_ms);
        }
    }

    /// A packet came.
    pub fn receive(&mut self, packet: Packet, now_ms: u64, effects: &mut Vec<Effect>) {
        match packet {
            Packet::View(view) => self.on_view(view, now_ms, effects),
            Packet::Grant(grant, view) => {
                self.on_view(view, now_ms, effects);
                self.on_grant(grant, now_ms, effects);
            }
            Packet::Peer {
                from,
                partition,
                message,
            } => {
                let mut actions = Vec::new();
                self.partitions[partition.index()].receive(from, message, now_ms, &mut actions);
                self.act(partition, actions, now_ms, effects);
            }
            Packet::Request(request) => self.request(request, now_ms, effects),
            Packet::Ping { client, view } => {
                self.hear(client, now_ms);
                if view < self.view.version {
                    let reply = Reply::View(self.view.clone());
                    effects.push(Effect::Client(client, reply));
                }
            }
            Packet::Over => self.is_over = true,
            Packet::Heartbeat { .. } | Packet::Command(_) => {}
        }
    }

    fn on_view(&mut self, view: Arc<View>, now_ms: u64, effects: &mut Vec<Effect>) {
        if view.version <= self.view.version {
            return;
        }
        self.view = view.clone();
        for index in 0..self.partitions.len() {
            let mut actions = Vec::new();
            self.partitions[index].on_view(&view, now_ms, &mut actions);
            self.act(PartitionId(index as u16), actions, now_ms, effects);
        }
    }

    fn on_grant(&mut self, grant: Grant, now_ms: u64, effects: &mut Vec<Effect>) {
        self.lease.renew(grant, self.settings.lease_ms);
        self.release(now_ms, effects);
        self.serve_waiting(now_ms, effects);
    }

    fn has_lease(&self, now_ms: u64) -> bool {
        self.lease.holds(now_ms, self.view.version)
    }

    fn release(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        if self.has_lease(now_ms) {
            let answers = self.withheld.drain(..);
            effects.extend(answers.map(|(client, reply)| Effect::Client(client, reply)));
        }
    }

    /// Whether its life as a member is over: it was one in a view that it knows, and is none in this one; or it was
    /// one without ever hearing of it.
    pub fn is_expelled(&self, was_member: bool) -> bool {
        self.is_over || was_member && !self.is_member()
    }

    /// Whether its view has it.
    pub fn is_member(&self) -> bool {
        self.view.has(self.id, self.incarnation)
    }

    fn act(
        &mut self,
        partition: PartitionId,
        actions: Vec<Action<Answer>>,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) {
        for action in actions {
            let mut more = Vec::new();
            self.act_one(partition, action, now_ms, &mut more, effects);
            self.act(partition, more, now_ms, effects);
        }
    }

    fn act_one(
        &mut self,
        id: PartitionId,
        action: Action<Answer>,
        now_ms: u64,
        more: &mut Vec<Action<Answer>>,
        effects: &mut Vec<Effect>,
    ) {
        match action {
            Action::Send(to, message) => self.send(id, to, message, effects),
            Action::Propose(command) => {
                effects.push(Effect::Control(Packet::Command(command)));
            }
            Action::Follow(from, entry) => self.follow(id, from, entry, effects),
            Action::Clear => {
                let count = self.settings.partitions;
                self.objects
                    .retain(|object, _| PartitionId::of(object, count) != id);
            }
            Action::Shed(level) => self.each(id, |replica| replica.shed(level)),
            Action::Lose(level) => self.each(id, |replica| replica.lose(level)),
            Action::Digest(to) => {
                let held = self.held(id);
                let message = self.partitions[id.index()].digest(held);
                self.send(id, to, message, effects);
            }
            Action::Reconcile(node, there) => {
                let there: BTreeMap<_, _> =
                    there.into_iter().map(|held| (held.object, held)).collect();
                let partition = &mut self.partitions[id.index()];
                let count = self.settings.partitions;
                for (object, replica) in &mut self.objects {
                    if PartitionId::of(object, count) == id {
                        let there = there.get(object).copied();
                        partition.reconcile(node, *object, Some(replica), there);
                    }
                }
                for (object, held) in there {
                    if !self.objects.contains_key(&object) {
                        partition.reconcile(node, object, None, Some(held));
                    }
                }
                partition.reconciled(node, now_ms, more);
            }
            Action::List => {
                let objects = self.held(id).into_iter().map(|held| held.object).collect();
                self.partitions[id.index()].copy_list(objects, now_ms, more);
            }
            Action::Copy(objects) => {
                let partition = &mut self.partitions[id.index()];
                for object in objects {
                    partition.copy(object, self.objects.get_mut(&object));
                }
                partition.issue(now_ms, more);
            }
            Action::Repair(node, object) => {
                if let Some(replica) = self.objects.get_mut(&object) {
                    self.partitions[id.index()].repair(node, object, replica);
                    self.partitions[id.index()].issue(now_ms, more);
                }
            }
            Action::Open => {
                self.take_over_sessions(id, now_ms);
                self.serve_waiting(now_ms, effects);
            }
            Action::Close => {
                for request in self.waiting.remove(&id).unwrap_or_default() {
                    let reply = Reply::Moved(request.sequence);
                    effects.push(Effect::Client(request.client, reply));
                }
            }
            Action::Release(answer) => {
                self.withheld.push(answer);
                self.release(now_ms, effects);
            }
        }
    }

    fn send(
        &self,
        partition: PartitionId,
        to: NodeId,
        message: Message,
        effects: &mut Vec<Effect>,
    ) {
        let Some(member) = self.view.members.get(&to) else {
            return;
        };
        let packet = Packet::Peer {
            from: self.id,
            partition,
            message,
        };
        effects.push(Effect::Node(to, member.incarnation, packet));
    }

    fn held(&self, id: PartitionId) -> Vec<Held> {
        let count = self.settings.partitions;
        let objects = self.objects.iter();
        objects
            .filter(|(object, _)| PartitionId::of(object, count) == id)
            .map(|(object, replica)| replica.held(*object, 0))
            .collect()
    }

    fn each(&mut self, id: PartitionId, act: impl Fn(&mut Replica)) {
        let count = self.settings.partitions;
        for (object, replica) in &mut self.objects {
            if PartitionId::of(object, count) == id {
                act(replica);
            }
        }
    }

    /// An entry of a primary's stream.
    fn follow(&mut self, id: PartitionId, from: NodeId, entry: Entry, effects: &mut Vec<Effect>) {
        match entry {
            Entry::Apply {
                object,
                previous,
                version,
                change,
                checksum,
            } => {
                let replica = self.objects.get_mut(&object);
                let level = self.partitions[id.index()].level();
                // If there is none it was dropped, and this was sent again; else the primary sends it whole.
                let is_here = replica.is_some();
                let fits = replica.is_some_and(|replica| {
                    replica.follow(previous, version, &change, checksum, (level, usize::MAX))
                });
                if !fits {
                    self.diverged += u64::from(is_here);
                    let message = self.partitions[id.index()].diverged(object);
                    self.send(id, from, message, effects);
                }
            }
            Entry::Install { object, image, .. } => {
                let replica = Replica::from_image(&image, |name, _| find(name))
                    .expect("a type that all have");
                self.objects.insert(object, replica);
            }
            Entry::Drop { object, .. } => {
                self.objects.remove(&object);
            }
            Entry::Reset { .. } | Entry::Level { .. } | Entry::Done(_) => {
                unreachable!("the partition keeps these")
            }
        }
    }

    // Requests.

    fn serve_waiting(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        for request in std::mem::take(&mut self.waiting).into_values().flatten() {
            self.request(request, now_ms, effects);
        }
    }

    fn request(&mut self, request: Request, now_ms: u64, effects: &mut Vec<Effect>) {
        let id = PartitionId::of(&request.object, self.settings.partitions);
        self.hear(request.client, now_ms);
        if self.ended.contains(&request.client) {
            return;
        }
        let acked = self.acked.entry(request.client).or_default();
        *acked = (*acked).max(request.acked);
        if request.sequence < *acked {
            return;
        }
        match self.partitions[id.index()].gate(request.view) {
            Gate::Moved => {
                let reply = Reply::Moved(request.sequence);
                effects.push(Effect::Client(request.client, reply));
            }
            Gate::Serve if self.has_lease(now_ms) => {
                let mut actions = Vec::new();
                self.execute(id, request, &mut actions);
                self.partitions[id.index()].issue(now_ms, &mut actions);
                self.act(id, actions, now_ms, effects);
            }
            Gate::Serve | Gate::Wait => self.waiting.entry(id).or_default().push(request),
        }
    }

    fn execute(&mut self, id: PartitionId, request: Request, out: &mut Vec<Action<Answer>>) {
        match &request.ask {
            Ask::Call { method, args } => self.call(id, &request, *method, args, out),
            Ask::Open {
                type_name,
                replicas,
                state,
            } => self.open(id, &request, type_name, *replicas, state, out),
            Ask::Delete => self.delete(id, &request, out),
            Ask::Cancel => self.cancel(id, &request, out),
        }
    }

    fn call(
        &mut self,
        id: PartitionId,
        request: &Request,
        method: MethodId,
        args: &[u8],
        out: &mut Vec<Action<Answer>>,
    ) {
        let partition = &mut self.partitions[id.index()];
        let acked = &self.acked;
        let needed = |call: CallId| is_needed(acked, call);
        let replica = self.objects.get_mut(&request.object);
        let was_gone = partition.done(request.call()).is_some();
        let Some(replica) = replica.filter(|r| r.is_full() && !was_gone) else {
            partition.note(request.done(None));
            let answer = request.gone();
            return partition.answer_after(partition.last(), answer, out);
        };
        if let Some(forget) = replica.purge(&needed, RECORDS_MIN) {
            change(partition, request.object, replica, &forget, out);
        }
        let call = Call {
            id: request.call(),
            acked: request.acked,
            recording: Recording::Changes,
            method,
            args,
        };
        let Some(cell) = replica.cell() else { return };
        if cell.admits(&call) == Admission::Change {
            return change(partition, request.object, replica, &change_of(&call), out);
        }
        let mut answers = Answers::default();
        let mut buffer = Vec::new();
        let mut turn = Turn::new(&mut answers, &mut buffer);
        let disposition = cell.call(&call, &mut turn);
        if disposition == Disposition::Parked {
            return;
        }
        for answer in answers.list {
            partition.answer_read(replica, answer, out);
        }
    }

    fn cancel(&mut self, id: PartitionId, request: &Request, out: &mut Vec<Action<Answer>>) {
        let partition = &mut self.partitions[id.index()];
        let Some(replica) = self.objects.get_mut(&request.object) else {
            return;
        };
        if replica
            .cell()
            .is_some_and(|cell| cell.is_parked(request.call()))
        {
            let cancel = Change::Cancel {
                call: request.call(),
                error: Error::Cancelled,
            };
            change(partition, request.object, replica, &cancel, out);
        }
    }

    fn open(
        &mut self,
        id: PartitionId,
        request: &Request,
        type_name: &str,
        replicas: u8,
        state: &[u8],
        out: &mut Vec<Action<Answer>>,
    ) {
        let partition = &mut self.partitions[id.index()];
        let call = request.call();
        if let Some(created) = partition.done(call) {
            let answer = request.outcome(created);
            return partition.answer_after(partition.last(), answer, out);
        }
        let there = self.objects.get(&request.object);
        match there {
            Some(replica) if matches!(replica.body, Body::Lost) && replica.creator != call => {
                // A copy of it that comes later finds nothing else.
                partition.note(request.done(None));
                return partition.answer(replica, request.gone(), out);
            }
            Some(replica) if !matches!(replica.body, Body::Lost) => {
                partition.note(request.done(Some(false)));
                return partition.answer(replica, request.did(false), out);
            }
            _ => {}
        }
        let info = find(type_name).expect("a type of the library");
        let cell = Cell::new(info, state).expect("a state of the type");
        let origin = Origin {
            home: Home::Namespace("default".to_owned()),
            type_name: type_name.to_owned(),
            key: request.object.to_string(),
        };
        let mut replica = Replica::new(cell, replicas, call, origin);
        let done = request.done(Some(true));
        partition.create(request.object, &mut replica, done);
        partition.answer(&replica, request.did(true), out);
        self.objects.insert(request.object, replica);
    }

    fn delete(&mut self, id: PartitionId, request: &Request, out: &mut Vec<Action<Answer>>) {
        let partition = &mut self.partitions[id.index()];
        let call = request.call();
        if let Some(deleted) = partition.done(call) {
            let answer = request.outcome(deleted);
            return partition.answer_after(partition.last(), answer, out);
        }
        let Some(mut replica) = self.objects.remove(&request.object) else {
            partition.note(request.done(Some(false)));
            let answer = request.did(false);
            return partition.answer_after(partition.last(), answer, out);
        };
        let done = request.done(Some(true));
        let acked = &self.acked;
        let needed = |call: CallId| is_needed(acked, call);
        let buried = replica.cell().map(|cell| cell.repeatable(&needed));
        let after = partition.delete(request.object, Some(done), buried.unwrap_or_default());
        partition.purge(&needed);
        if let Some(cell) = replica.cell() {
            let mut answers = Answers::default();
            let mut buffer = Vec::new();
            let lost = Error::Lost {
                object: request.object.to_string(),
            };
            cell.end_parked(&lost, &mut Turn::new(&mut answers, &mut buffer));
            for answer in answers.list {
                partition.answer_after(after, answer, out);
            }
        }
        partition.answer_after(after, request.did(true), out);
    }
}

/// Does a change at the primary, and sends it to the backups.
fn change(
    partition: &mut Partition<Answer>,
    object: ObjectId,
    replica: &mut Replica,
    change: &Change,
    out: &mut Vec<Action<Answer>>,
) {
    let mut answers = Answers::default();
    let mut buffer = Vec::new();
    replica.apply(change, &mut Turn::new(&mut answers, &mut buffer));
    // Now and then, what can not be done alike elsewhere.
    let differs = matches!(change, Change::Call { id, .. } if id.sequence.0 % 16 == 0);
    match differs {
        true => partition.replace(object, replica),
        false => partition.change(object, replica, || {
            (change.clone(), answers.checksum.value())
        }),
    }
    for answer in answers.list {
        partition.answer(replica, answer, out);
    }
}

fn is_needed(acked: &BTreeMap<SessionId, Sequence>, call: CallId) -> bool {
    let acked = acked.get(&call.session).copied().unwrap_or_default();
    call.sequence >= acked
}

fn find(name: &str) -> Option<&'static TypeInfo> {
    registry::find(name)
}

#[derive(Default)]
struct Answers {
    list: Vec<Answer>,
    checksum: Checksum,
}

impl Replies for Answers {
    fn reply(&mut self, call: CallId, result: Result<&[u8], &Error>) {
        self.checksum.reply(call, result);
        let result = result.map(<[u8]>::to_vec).map_err(Clone::clone);
        let reply = Reply::Result(call.sequence, WireBody::Bytes(result));
        self.list.push((call.session, reply));
    }
}

impl Request {
    fn call(&self) -> CallId {
        CallId {
            session: self.client,
            sequence: self.sequence,
        }
    }

    fn done(&self, result: Option<bool>) -> Lifecycle {
        Lifecycle {
            call: self.call(),
            acked: self.acked,
            result,
        }
    }

    fn outcome(&self, result: Option<bool>) -> Answer {
        result.map_or_else(|| self.gone(), |did| self.did(did))
    }

    fn did(&self, did: bool) -> Answer {
        (
            self.client,
            Reply::Result(self.sequence, WireBody::Did(did)),
        )
    }

    fn gone(&self) -> Answer {
        let lost = Error::Lost {
            object: self.object.to_string(),
        };
        let reply = Reply::Result(self.sequence, WireBody::Bytes(Err(lost)));
        (self.client, reply)
    }
}
