//! A client: one request at a time, as a program would make it.

use std::collections::BTreeMap;

use crucial_client::session::Target;
use crucial_linear::{History, Operation};
use crucial_node::replication::NodeId;
use crucial_object::{Error, MethodId, ObjectId, Result, Sequence, SessionId, decode, encode};
use crucial_proto::frame::{CallRequest, Inspect, OpenMode, Operation as Wanted};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_bytes::ByteBuf;

use crate::attempt::{Awaited, Positions, Work};
use crate::caller::Caller;
use crate::events::Now;
use crate::model::{Input, Output};
use crate::objects::{Kind, Object};
use crate::pushes::Pushes;

pub struct Client {
    /// Names the process. An exactly-once thread's attempts have a session in common.
    pub session: SessionId,
    pub caller: Caller,
    /// The attempt that it runs.
    pub work: Option<Work>,
    /// The answers to requests to all servers.
    pub awaited: Awaited,
    /// Whether it goes on when a server has ended its session.
    pub goes_on: bool,
    /// The request that it waits for.
    current: Option<(Operation<ObjectId, Input, Output>, Sequence)>,
    /// How many requests it is to make yet.
    pub left: usize,
    /// The locks that it holds, with their tokens.
    held: BTreeMap<ObjectId, u64>,
    pub is_dead: bool,
    /// What it has done.
    pub history: Vec<Operation<ObjectId, Input, Output>>,
    /// Its requests about modules.
    pub pushes: Pushes,
    /// Answers that no request can have.
    pub wrong: Vec<String>,
}

impl Client {
    pub fn new(session: SessionId, left: usize, caller: Caller) -> Client {
        Client {
            session,
            caller,
            work: None,
            awaited: Awaited::new(),
            goes_on: false,
            current: None,
            left,
            held: BTreeMap::new(),
            is_dead: false,
            history: Vec::new(),
            pushes: Pushes::default(),
            wrong: Vec::new(),
        }
    }

    /// Whether it has nothing to do any more, or waits for what may never come.
    pub fn is_done(&self) -> bool {
        match &self.current {
            _ if self.is_dead => true,
            None => self.left == 0 && self.pushes.are_done(),
            Some((operation, _)) => operation.input.may_wait(),
        }
    }

    pub fn waits_for(&self) -> Option<&Operation<ObjectId, Input, Output>> {
        self.current.as_ref().map(|(operation, _)| operation)
    }

    /// The calls of an exactly-once thread, by their position.
    pub fn positions(&self) -> Option<Positions> {
        let work = self
            .work
            .as_ref()
            .filter(|work| work.attempt.exactly_once)?;
        Some(work.positions.clone())
    }

    /// All that it asked, answered or not; of an exactly-once thread nothing.
    pub fn into_history(self) -> History<ObjectId, Input, Output> {
        let open = self.current.map(|(operation, _)| operation);
        let is_recorded = self.work.is_some_and(|work| work.attempt.exactly_once);
        let open = open.filter(|_| !is_recorded);
        self.history.into_iter().chain(open).collect()
    }

    /// Whether it would send a request about an object to this node.
    pub fn is_at(&self, object: &ObjectId, node: NodeId) -> bool {
        self.caller.primary_of(object) == Some(node)
    }

    /// Begins its next request, if it waits for none. Now and then it gives up waiting, or asks about the servers.
    pub fn tick(&mut self, now: Now, objects: &[Object], random: &mut ChaCha8Rng) {
        if self.is_dead || !self.may_call(now) {
            return;
        }
        if random.random_range(0..20) == 0 {
            self.inspect(random.random_range(0..3), now);
        }
        if self.current.is_none() && self.left > 0 {
            self.begin(now, objects, random);
        } else if random.random_range(0..10) == 0 {
            self.withdraw();
        }
    }

    /// Whether it may ask for something about modules.
    pub fn may_push(&self) -> bool {
        !self.is_dead && self.work.is_none() && self.left > 0
    }

    /// Whether its attempt has begun, if it runs one.
    fn may_call(&mut self, now: Now) -> bool {
        let Some(work) = &mut self.work else {
            return true;
        };
        match work.begin(&mut self.caller, &mut self.awaited, now.ms) {
            Ok(has_begun) => has_begun,
            Err(_) => {
                self.is_dead = true;
                false
            }
        }
    }

    fn begin_recorded(&mut self, now: Now, objects: &[Object]) {
        let Some(work) = &mut self.work else { return };
        let (input, object) = work.next_call(objects);
        let target = Target::Object(object.id);
        let wanted = wanted(input, object, (0, 0));
        if let Some(sequence) = self.caller.submit(target, &wanted, now.ms) {
            self.left -= 1;
            let position = work.positions.len() as u64;
            assert_eq!(sequence.0, position + 1, "numbers are positions");
            let session = self.caller.session_id();
            let operation = Operation::called(session.0, object.id, input, now.event);
            work.positions.insert(position, operation.clone());
            self.current = Some((operation, sequence));
        }
    }

    /// Asks all servers something about themselves, and does not wait for the answers.
    fn inspect(&mut self, what: usize, now: Now) {
        let inspect = match what {
            0 => Inspect::Cluster,
            1 => Inspect::Replicas { max: 100 },
            _ => Inspect::Objects {
                after: None,
                max: 100,
                key: None,
            },
        };
        for member in self.caller.members() {
            let target = Target::Member(member);
            let operation = Wanted::Inspect(inspect.clone());
            self.caller.submit(target, &operation, now.ms);
        }
    }

    fn begin(&mut self, now: Now, objects: &[Object], random: &mut ChaCha8Rng) {
        if self.is_exactly_once() {
            return self.begin_recorded(now, objects);
        }
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
            (_, 18..25) if object.is_uploaded => Input::Delete,
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
        let target = Target::Object(object.id);
        if let Some(sequence) = self.caller.submit(target, &wanted, now.ms) {
            self.left -= 1;
            let operation = Operation::called(self.session.0, object.id, input, now.event);
            self.current = Some((operation, sequence));
        }
    }

    /// The client does not want to wait any longer, and may have the result all the same.
    fn withdraw(&mut self) {
        if let Some((operation, sequence)) = &self.current
            && operation.input.may_wait()
        {
            self.caller.withdraw(*sequence, operation.object);
        }
    }

    pub fn is_exactly_once(&self) -> bool {
        let work = self.work.as_ref();
        work.is_some_and(|work| work.attempt.exactly_once)
    }

    /// Takes the results that have come.
    pub fn take_results(&mut self, now: Now) {
        for (sequence, result) in std::mem::take(&mut self.caller.results) {
            if let Some(awaited) = self.awaited.get_mut(&sequence) {
                *awaited = Some(result.map(drop));
                continue;
            }
            match self.pushes.take(sequence, &result, now) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(wrong) => self.wrong.push(wrong),
            }
            let is_it = |(_, current): &mut (_, Sequence)| *current == sequence;
            if let Some((operation, _)) = self.current.take_if(is_it) {
                self.on_result(operation, result, now.event);
            }
        }
        // The client was silent for too long for a server: it ends, or goes on with what it has elsewhere.
        let ends = self.caller.has_expired && !self.goes_on;
        self.is_dead |= ends || self.caller.is_fenced;
    }

    /// A call of an exactly-once thread has this result.
    fn on_recorded(
        &mut self,
        operation: Operation<ObjectId, Input, Output>,
        result: Result<Vec<u8>>,
        now: u64,
    ) {
        let Some(work) = &mut self.work else { return };
        let output = match output(operation.input, result) {
            Ok(output) => output,
            Err(wrong) => return self.wrong.push(format!("{operation:?}: {wrong}")),
        };
        let Some(output) = output else {
            // The attempt fails.
            self.is_dead = true;
            return;
        };
        let last = work.positions.len() as u64 - 1;
        work.positions.insert(last, operation.returned(output, now));
    }

    fn on_result(
        &mut self,
        operation: Operation<ObjectId, Input, Output>,
        result: Result<Vec<u8>>,
        now: u64,
    ) {
        if self.is_exactly_once() {
            return self.on_recorded(operation, result, now);
        }
        if let Err(Error::UnknownType { type_name }) = &result {
            self.pushes.want(type_name);
        }
        if let (Input::Acquire(_), Ok(token)) = (operation.input, &result)
            && let Ok(token) = decode(token)
        {
            self.held.insert(operation.object, token);
        }
        if let Input::Release(_) = operation.input {
            self.held.remove(&operation.object);
        }
        match output(operation.input, result) {
            Ok(Some(output)) => self.history.push(operation.returned(output, now)),
            Ok(None) => self.history.push(operation),
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

/// `None`: nobody knows what was done.
fn output(input: Input, result: Result<Vec<u8>>) -> Result<Option<Output>, String> {
    let bytes = match result {
        Err(Error::Lost { .. }) => return Ok(Some(Output::Gone)),
        Err(Error::LockLost { .. }) => return Ok(Some(Output::NotHeld)),
        Err(Error::Cancelled | Error::TimedOut { .. }) => return Ok(Some(Output::Withdrawn)),
        Err(Error::LimitExceeded { .. }) => return Ok(Some(Output::Refused)),
        // Of a brittle object, which could not be made; or of one whose type is one of no module now.
        Err(Error::Encoding { .. } | Error::BadArguments { .. } | Error::UnknownType { .. })
            if input.creates() =>
        {
            return Ok(Some(Output::Refused));
        }
        Err(Error::NotFound { .. }) => return Ok(Some(Output::NotFound)),
        // The second one: faults that follow each other have kept the client from its server for all of its patience.
        Err(Error::SessionExpired | Error::Unavailable { .. } | Error::Fenced) => return Ok(None),
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
    Ok(Some(output))
}
