//! A client: one request at a time, repeated until it is answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use crucial_linear::{History, Operation};
use crucial_node::replication::{Incarnation, NodeId};
use crucial_object::{
    Error, MethodId, ObjectId, Result, RunId, Sequence, SessionId, decode, encode,
};
use crucial_proto::frame::{
    CallRequest, Hello, InFlight, Inspect, OpenMode, Operation as Wanted, Request, Response, Routes,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_bytes::ByteBuf;

use crate::model::{Input, Output};
use crate::objects::{Kind, NAMESPACE, Object};
use crate::wire::{ClientPacket, End, Packet, ToClient};

pub struct Client {
    pub session: SessionId,
    routes: Arc<Routes>,
    /// Its connections, of which each server has at most one.
    links: BTreeMap<NodeId, Link>,
    /// How many connections it has had.
    connections: u64,
    sequence: Sequence,
    pings: u64,
    current: Option<(Operation<ObjectId, Input, Output>, Wanted)>,
    /// How many requests it is to make yet.
    pub left: usize,
    /// The locks that it holds, with their tokens.
    held: BTreeMap<ObjectId, u64>,
    pub is_dead: bool,
    /// Whether the session has ended, and the client says so.
    pub says_goodbye: bool,
    /// What it has done.
    pub history: Vec<Operation<ObjectId, Input, Output>>,
    /// Answers that no request can have.
    pub wrong: Vec<String>,
}

/// A connection.
struct Link {
    number: u64,
    incarnation: Incarnation,
    hello: Arc<Hello>,
    /// The version of the routes by which requests are sent on it.
    routes: u64,
}

/// Where a packet goes.
pub type Addressed = (NodeId, Incarnation, Packet);

/// The sequences of pings are above those of requests.
const PINGS: u64 = 1 << 40;

impl Client {
    pub fn new(session: u64, left: usize) -> Client {
        let routes = Routes {
            cluster: 0,
            version: 0,
            servers: Vec::new(),
            primaries: Vec::new(),
        };
        Client {
            session: SessionId(session),
            routes: Arc::new(routes),
            links: BTreeMap::new(),
            connections: 0,
            sequence: Sequence(0),
            pings: 0,
            current: None,
            left,
            held: BTreeMap::new(),
            is_dead: false,
            says_goodbye: false,
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

    /// Whether it still wants the reply to a request.
    pub fn wants(&self, sequence: Sequence) -> bool {
        sequence == self.sequence && self.current.is_some() && !self.is_dead
    }

    /// Whether this is its present connection to a node.
    pub fn uses(&self, node: NodeId, number: u64) -> bool {
        let link = self.links.get(&node);
        link.is_some_and(|link| link.number == number)
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
        if self.is_dead && !self.says_goodbye {
            return Vec::new();
        }
        if self.says_goodbye {
            return self.broadcast(|_| Wanted::Goodbye);
        }
        let mut packets = match random.random_range(0..20) {
            0 => self.broadcast(|_| Wanted::Inspect(Inspect::Cluster)),
            1 => self.inspect(),
            2 => self.list_in_flight(),
            _ => self.ping(),
        };
        if self.current.is_none() && self.left > 0 {
            self.begin(now, objects, random);
        }
        packets.extend(self.send());
        if random.random_range(0..10) == 0 {
            packets.extend(self.withdraw());
        }
        packets
    }

    fn ping(&mut self) -> Vec<Addressed> {
        self.broadcast(|_| Wanted::Ping)
    }

    /// Asks about objects, and does not wait for the answer.
    fn inspect(&mut self) -> Vec<Addressed> {
        self.broadcast(|place| match place % 2 {
            0 => Wanted::Inspect(Inspect::Replicas { max: 100 }),
            _ => Wanted::Inspect(Inspect::Objects {
                after: None,
                max: 100,
                key: None,
            }),
        })
    }

    /// Sends something to all servers that it knows.
    fn broadcast(&mut self, operation: impl Fn(usize) -> Wanted) -> Vec<Addressed> {
        let request = |client: &mut Client, place| {
            client.pings += 1;
            Request::Numbered {
                sequence: Sequence(PINGS + client.pings),
                acked: client.waits_from(),
                operation: operation(place),
            }
        };
        self.send_all(request)
    }

    /// Says what it waits for, to all servers that it knows.
    fn list_in_flight(&mut self) -> Vec<Addressed> {
        let waiting = self.current.iter().map(|_| self.sequence).collect();
        let in_flight = InFlight {
            last: self.sequence,
            waiting,
        };
        self.send_all(|_, _| Request::InFlight(in_flight.clone()))
    }

    /// Whether the client still waits for this sequence, or for later ones.
    fn waits_from(&self) -> Sequence {
        match self.current {
            Some(_) => self.sequence,
            None => Sequence(self.sequence.0 + 1),
        }
    }

    fn send_all(
        &mut self,
        mut request: impl FnMut(&mut Client, usize) -> Request,
    ) -> Vec<Addressed> {
        let routes = self.routes.clone();
        let servers = routes.servers.iter().enumerate();
        servers
            .map(|(place, server)| {
                let request = request(self, place);
                let to = (NodeId(server.node), Incarnation(server.incarnation));
                self.packet(to, request, 0)
            })
            .collect()
    }

    fn begin(&mut self, now: u64, objects: &[Object], random: &mut ChaCha8Rng) {
        let object = &objects[random.random_range(0..objects.len())];
        let item = random.random_range(1..1_000_000);
        let input = match (object.kind, random.random_range(0..100)) {
            (Kind::Counter, 0..12) => Input::OpenCounter,
            (Kind::Counter, 12) if object.is_volatile => Input::RecreateCounter,
            (Kind::Counter, 12..15) => Input::FindCounter,
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
        let timeout_ms = match random.random_range(0..4) {
            0 if input.may_wait() => random.random_range(1..3000),
            _ => 0,
        };
        let token = self.held.get(&object.id).copied().unwrap_or_default();
        let wanted = wanted(input, object, (token, timeout_ms));
        self.sequence.0 += 1;
        self.left -= 1;
        let operation = Operation::called(self.session.0, object.id, input, now);
        self.current = Some((operation, wanted));
    }

    /// The client does not want to wait any longer, and may have the result all the same.
    fn withdraw(&mut self) -> Option<Addressed> {
        let (operation, _) = self.current.as_ref()?;
        if !operation.input.may_wait() {
            return None;
        }
        let request = Request::Cancel {
            sequence: self.sequence,
            object: operation.object,
        };
        let to = self.primary()?;
        Some(self.packet(to, request, 0))
    }

    /// Where its present request goes.
    fn primary(&self) -> Option<(NodeId, Incarnation)> {
        let (operation, _) = self.current.as_ref()?;
        self.primary_of(&operation.object)
    }

    fn primary_of(&self, object: &ObjectId) -> Option<(NodeId, Incarnation)> {
        let server = self.routes.primary(self.routes.partition(object))?;
        Some((NodeId(server.node), Incarnation(server.incarnation)))
    }

    /// Whether it would send a request about an object to this node.
    pub fn is_at(&self, object: &ObjectId, node: NodeId) -> bool {
        let primary = self.primary_of(object);
        primary.is_some_and(|(primary, _)| primary == node)
    }

    fn send(&mut self) -> Option<Addressed> {
        let (_, wanted) = self.current.as_ref().filter(|_| !self.is_dead)?;
        let request = Request::Numbered {
            sequence: self.sequence,
            acked: self.sequence,
            operation: wanted.clone(),
        };
        let to = self.primary()?;
        Some(self.packet(to, request, self.routes.version))
    }

    /// A packet, on a connection that knows of routes which are no older than this.
    fn packet(
        &mut self,
        (node, incarnation): (NodeId, Incarnation),
        request: Request,
        routes: u64,
    ) -> Addressed {
        let link = self.links.get_mut(&node);
        let link = link.filter(|link| link.incarnation == incarnation);
        let end = match link {
            Some(link) if link.routes >= routes => End::Client(self.session, link.number),
            // The client says which routes it has, or takes another connection.
            Some(link) if link.number % 4 == 0 => {
                link.routes = routes;
                End::Client(self.session, link.number)
            }
            _ => self.connect(node, incarnation),
        };
        let link = &self.links[&node];
        let packet = ClientPacket {
            end,
            hello: link.hello.clone(),
            routes: link.routes,
            request,
        };
        (node, incarnation, Packet::Client(Box::new(packet)))
    }

    fn connect(&mut self, node: NodeId, incarnation: Incarnation) -> End {
        let mut run = [0; 16];
        run[..8].copy_from_slice(&self.session.0.to_le_bytes());
        let hello = Hello {
            session: self.session,
            run: RunId(run),
            owner: true,
            namespace: NAMESPACE.to_owned(),
            attempt: None,
            routes: self.routes.version,
            fences: 0,
        };
        self.connections += 1;
        let link = Link {
            number: self.connections,
            incarnation,
            hello: Arc::new(hello),
            routes: self.routes.version,
        };
        self.links.insert(node, link);
        End::Client(self.session, self.connections)
    }

    /// Something came from a node, on the connection of this number.
    pub fn receive(
        &mut self,
        (node, number): (NodeId, u64),
        what: ToClient,
        now: u64,
    ) -> Vec<Addressed> {
        match what {
            _ if self.is_dead => Vec::new(),
            ToClient::Closed | ToClient::Response(Response::Refused(_)) => {
                if self.uses(node, number) {
                    self.links.remove(&node);
                }
                Vec::new()
            }
            ToClient::Response(Response::Welcome(welcome)) => {
                if !welcome.resumed {
                    // The client was silent for too long for this server.
                    self.is_dead = true;
                    return Vec::new();
                }
                self.learn(&Arc::new(welcome.routes))
            }
            ToClient::Response(Response::Routes(routes)) => self.learn(&Arc::new(routes)),
            ToClient::Response(Response::Moved { sequence, routes }) => {
                if sequence == self.sequence && routes > self.routes.version {
                    // The newer ones come with a new connection.
                    self.links.remove(&node);
                    return self.ping();
                }
                Vec::new()
            }
            ToClient::Response(Response::Reply { sequence, result }) => {
                if sequence == self.sequence {
                    self.on_reply(result.map(|bytes| bytes.to_vec()), now);
                }
                Vec::new()
            }
        }
    }

    /// Routes came, perhaps from outside, as from a list of seeds.
    pub fn learn(&mut self, routes: &Arc<Routes>) -> Vec<Addressed> {
        if routes.version <= self.routes.version {
            return Vec::new();
        }
        self.routes = routes.clone();
        let servers = &routes.servers;
        self.links
            .retain(|node, _| servers.iter().any(|server| server.node == node.0));
        self.send().into_iter().collect()
    }

    fn on_reply(&mut self, result: Result<Vec<u8>>, now: u64) {
        let Some((operation, _)) = self.current.take() else {
            return;
        };
        if let (Input::Acquire(_), Ok(token)) = (operation.input, &result)
            && let Ok(token) = decode(token)
        {
            self.held.insert(operation.object, token);
        }
        if let Input::Release(_) = operation.input {
            self.held.remove(&operation.object);
        }
        match output(operation.input, result) {
            Ok(output) => self.history.push(operation.returned(output, now)),
            Err(wrong) => {
                self.wrong.push(format!("{operation:?}: {wrong}"));
                self.history.push(operation);
            }
        }
    }
}

fn wanted(input: Input, object: &Object, (token, timeout_ms): (u64, u32)) -> Wanted {
    let sealed = |item: i64| ByteBuf::from(encode(&item).expect("an integer"));
    let call = |method: &str, args: Vec<u8>| {
        Wanted::Call(CallRequest {
            object: object.id,
            method: MethodId::of(method),
            timeout_ms,
            args: args.into(),
        })
    };
    let open = |mode: OpenMode| Wanted::Open(object.open(mode));
    match input {
        Input::OpenCounter | Input::OpenQueue | Input::OpenLock => open(OpenMode::FindOrCreate),
        Input::FindCounter => open(OpenMode::Find),
        Input::RecreateCounter => open(OpenMode::Recreate),
        Input::Acquire(_) => call("acquire", Vec::new()),
        Input::Release(_) => call("release_acquired", encode(&(token,)).expect("a number")),
        Input::Delete => Wanted::Delete(object.id),
        Input::Add(more) => call("fetch_add", encode(&(more,)).expect("an integer")),
        Input::Load => call("load", Vec::new()),
        Input::Push(item) => call("push", encode(&(sealed(item),)).expect("bytes")),
        Input::Pop => call("pop", Vec::new()),
        Input::TryPop => call("try_pop", Vec::new()),
    }
}

fn output(input: Input, result: Result<Vec<u8>>) -> Result<Output, String> {
    let bytes = match result {
        Err(Error::Lost { .. }) => return Ok(Output::Gone),
        Err(Error::LockLost { .. }) => return Ok(Output::NotHeld),
        Err(Error::Cancelled | Error::TimedOut { .. }) => return Ok(Output::Withdrawn),
        Err(Error::LimitExceeded { .. }) => return Ok(Output::Refused),
        Err(Error::NotFound { .. }) => return Ok(Output::NotFound),
        Err(error) => return Err(error.to_string()),
        Ok(bytes) => bytes,
    };
    let output = match input {
        Input::OpenCounter
        | Input::FindCounter
        | Input::RecreateCounter
        | Input::OpenQueue
        | Input::OpenLock
        | Input::Delete => Output::Did(decode(&bytes).map_err(|e| e.to_string())?),
        Input::Add(_) | Input::Load => Output::Value(decode(&bytes).map_err(|e| e.to_string())?),
        Input::Push(_) => Output::Pushed,
        Input::Acquire(_) => Output::Held(true),
        Input::Release(_) => Output::Held(false),
        Input::Pop | Input::TryPop => {
            let item: Option<ByteBuf> = decode(&bytes).map_err(|e| e.to_string())?;
            let item = item.map(|item| decode(&item)).transpose();
            Output::Popped(item.map_err(|e| e.to_string())?)
        }
    };
    Ok(output)
}
