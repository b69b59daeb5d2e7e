//! A client: one request at a time, repeated until it is answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use crucial_cluster::{Incarnation, NodeId, View};
use crucial_linear::{History, Operation};
use crucial_object::sync::Semaphore;
use crucial_object::{Error, MethodId, ObjectId, Sequence, SessionId, decode, encode};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_bytes::ByteBuf;

use crate::model::{Input, Output};
use crate::wire::{Ask, Body, Packet, Reply, Request};
use crate::world::{Kind, Object};

pub struct Client {
    pub session: SessionId,
    view: Arc<View>,
    sequence: Sequence,
    current: Option<(Operation<ObjectId, Input, Output>, Ask)>,
    /// How many requests it is to make yet.
    pub left: usize,
    /// The locks that it holds, with their tokens.
    held: BTreeMap<ObjectId, u64>,
    pub is_dead: bool,
    /// What it has done.
    pub history: Vec<Operation<ObjectId, Input, Output>>,
    /// Answers that no request can have.
    pub wrong: Vec<String>,
}

/// Where a packet goes.
pub type Addressed = (NodeId, Incarnation, Packet);

impl Client {
    pub fn new(session: u64, left: usize, view: Arc<View>) -> Client {
        Client {
            session: SessionId(session),
            view,
            sequence: Sequence(0),
            current: None,
            left,
            held: BTreeMap::new(),
            is_dead: false,
            history: Vec::new(),
            wrong: Vec::new(),
        }
    }

    /// Whether it has nothing to do any more, or waits for what may never come.
    pub fn is_done(&self) -> bool {
        match &self.current {
            _ if self.is_dead => true,
            None => self.left == 0,
            Some((operation, _)) => operation.input.may_wait(),
        }
    }

    pub fn waits_for(&self) -> Option<&Operation<ObjectId, Input, Output>> {
        self.current.as_ref().map(|(operation, _)| operation)
    }

    /// All that it asked, answered or not.
    pub fn into_history(self) -> History<ObjectId, Input, Output> {
        let open = self.current.map(|(operation, _)| operation);
        self.history.into_iter().chain(open).collect()
    }

    /// Begins the next request, or repeats the present one.
    pub fn tick(
        &mut self,
        now: u64,
        objects: &[Object],
        random: &mut ChaCha8Rng,
    ) -> Vec<Addressed> {
        if self.is_dead {
            return Vec::new();
        }
        let mut packets = self.ping();
        if self.current.is_none() && self.left > 0 {
            self.begin(now, objects, random);
        }
        packets.extend(self.send());
        if random.random_range(0..10) == 0 {
            packets.extend(self.withdraw());
        }
        packets
    }

    /// To all servers that it knows.
    fn ping(&self) -> Vec<Addressed> {
        let members = self.view.members.iter();
        members
            .map(|(node, member)| {
                let ping = Packet::Ping {
                    client: self.session,
                    view: self.view.version,
                };
                (*node, member.incarnation, ping)
            })
            .collect()
    }

    fn begin(&mut self, now: u64, objects: &[Object], random: &mut ChaCha8Rng) {
        let object = &objects[random.random_range(0..objects.len())];
        let item = random.random_range(1..1_000_000);
        let input = match (object.kind, random.random_range(0..100)) {
            (Kind::Counter, 0..15) => Input::OpenCounter,
            (Kind::Queue, 0..15) => Input::OpenQueue,
            (Kind::Lock, 0..15) => Input::OpenLock,
            (Kind::Lock, _) if self.held.contains_key(&object.id) => Input::Release(self.session.0),
            (Kind::Lock, _) => Input::Acquire(self.session.0),
            (_, 15..18) if object.is_volatile => Input::Delete,
            (Kind::Counter, ..60) => Input::Add(item % 10 + 1),
            (Kind::Counter, _) => Input::Load,
            (Kind::Queue, ..60) => Input::Push(item),
            (Kind::Queue, ..70) => Input::Pop,
            (Kind::Queue, _) => Input::TryPop,
        };
        let ask = self.ask(input, object);
        self.sequence.0 += 1;
        self.left -= 1;
        let operation = Operation::called(self.session.0, object.id, input, now);
        self.current = Some((operation, ask));
    }

    /// It does not want to wait any longer, and may have the result all the same.
    fn withdraw(&self) -> Option<Addressed> {
        let (operation, _) = self.current.as_ref()?;
        operation
            .input
            .may_wait()
            .then(|| self.packet(Ask::Cancel))?
    }

    fn send(&self) -> Option<Addressed> {
        let (_, ask) = self.current.as_ref()?;
        self.packet(ask.clone())
    }

    fn packet(&self, ask: Ask) -> Option<Addressed> {
        let (operation, _) = self.current.as_ref()?;
        let primary = self.view.primary(self.view.partition(&operation.object))?;
        let member = self.view.members.get(&primary)?;
        let request = Request {
            client: self.session,
            sequence: self.sequence,
            acked: self.sequence,
            view: self.view.version,
            object: operation.object,
            ask,
        };
        Some((primary, member.incarnation, Packet::Request(request)))
    }

    pub fn receive(&mut self, reply: Reply, now: u64) -> Vec<Addressed> {
        match reply {
            _ if self.is_dead => Vec::new(),
            Reply::View(view) => {
                if view.version > self.view.version {
                    self.view = view;
                    return self.send().into_iter().collect();
                }
                Vec::new()
            }
            Reply::Moved(sequence) if sequence == self.sequence => self.ping(),
            Reply::Result(sequence, body) if sequence == self.sequence => {
                self.answered(body, now);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// A view from outside, as from a list of seeds.
    pub fn hear(&mut self, view: &Arc<View>) {
        if view.version > self.view.version {
            self.view = view.clone();
        }
    }

    fn answered(&mut self, body: Body, now: u64) {
        let Some((operation, _)) = self.current.take() else {
            return;
        };
        if let (Input::Acquire(_), Body::Bytes(Ok(token))) = (operation.input, &body)
            && let Ok(token) = decode(token)
        {
            self.held.insert(operation.object, token);
        }
        if let Input::Release(_) = operation.input {
            self.held.remove(&operation.object);
        }
        match output(operation.input, body) {
            Ok(output) => self.history.push(operation.returned(output, now)),
            Err(wrong) => {
                self.wrong.push(format!("{operation:?}: {wrong}"));
                self.history.push(operation);
            }
        }
    }

    fn ask(&self, input: Input, object: &Object) -> Ask {
        let token = self.held.get(&object.id).copied().unwrap_or_default();
        ask(input, object, token)
    }
}

fn ask(input: Input, object: &Object, token: u64) -> Ask {
    let sealed = |item: i64| ByteBuf::from(encode(&item).expect("an integer"));
    let call = |method: &str, args: Vec<u8>| Ask::Call {
        method: MethodId::of(method),
        args,
    };
    match input {
        Input::OpenCounter => Ask::Open {
            type_name: "crucial::AtomicI64",
            replicas: object.replicas,
            state: encode(&0i64).expect("an integer"),
        },
        Input::OpenQueue => Ask::Open {
            type_name: "crucial::Queue",
            replicas: object.replicas,
            state: encode(&(Vec::<ByteBuf>::new(), 1u64 << 20, false)).expect("a queue"),
        },
        Input::OpenLock => Ask::Open {
            type_name: "crucial::Semaphore",
            replicas: object.replicas,
            state: encode(&Semaphore::new(1)).expect("a semaphore"),
        },
        Input::Acquire(_) => call("acquire", Vec::new()),
        Input::Release(_) => call("release_acquired", encode(&(token,)).expect("a number")),
        Input::Delete => Ask::Delete,
        Input::Add(more) => call("fetch_add", encode(&(more,)).expect("an integer")),
        Input::Load => call("load", Vec::new()),
        Input::Push(item) => call("push", encode(&(sealed(item),)).expect("bytes")),
        Input::Pop => call("pop", Vec::new()),
        Input::TryPop => call("try_pop", Vec::new()),
    }
}

fn output(input: Input, body: Body) -> Result<Output, String> {
    let bytes = match body {
        Body::Did(did) => return Ok(Output::Did(did)),
        Body::Bytes(Err(Error::Lost { .. })) => return Ok(Output::Gone),
        Body::Bytes(Err(Error::LockLost { .. })) => return Ok(Output::NotHeld),
        Body::Bytes(Err(Error::Cancelled)) => return Ok(Output::Withdrawn),
        Body::Bytes(Err(error)) => return Err(error.to_string()),
        Body::Bytes(Ok(bytes)) => bytes,
    };
    let output = match input {
        Input::Add(_) | Input::Load => Output::Value(decode(&bytes).map_err(|e| e.to_string())?),
        Input::Push(_) => Output::Pushed,
        Input::Acquire(_) => Output::Held(true),
        Input::Release(_) => Output::Held(false),
        Input::Pop | Input::TryPop => {
            let item: Option<ByteBuf> = decode(&bytes).map_err(|e| e.to_string())?;
            let item = item.map(|item| decode(&item)).transpose();
            Output::Popped(item.map_err(|e| e.to_string())?)
        }
        _ => return Err("a result of another kind".to_owned()),
    };
    Ok(output)
}
