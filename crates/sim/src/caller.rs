//! A client's end of the network: the session of `crucial-client`, and its connections. What the threads of a real client do
//! is done here event by event.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use crucial_client::session::{
    Failed, Fit, Identity, Introduction, Member, Request, Rerouted, Session, TICK_MS, Table,
    Target, Withdrawal,
};
use crucial_node::replication::NodeId;
use crucial_object::{Error, ObjectId, Result, RunId, Sequence, SessionId, ThreadId};
use crucial_proto::frame::{
    self, Attempt, CallFrame, Fence, InFlight, Operation, Response, Welcome,
};

use crate::objects::NAMESPACE;

/// For how long a call that cannot be sent waits.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection has this long to bring a welcome.
pub const WELCOME_MS: u64 = 2_000;

/// Pauses between attempts to connect: each is twice the one before, from the first to the last.
const PAUSE_FIRST_MS: u64 = 5;
const PAUSE_LAST_MS: u64 = 500;

/// Something that a caller wants of the world.
#[derive(Debug)]
pub enum Ask {
    /// Connect to a node, or to any; the stream has this number.
    Dial(u64, Option<NodeId>),
    /// Send frames on a stream.
    Send(u64, Vec<u8>),
    /// Close a stream.
    Close(u64),
    /// Look around then.
    Look(u64),
    /// Try again to connect, after this number of milliseconds.
    Redial(Redial, u64),
}

/// An attempt to connect that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Redial {
    /// To this server; `None`: to any.
    member: Option<Member>,
    /// The pause before the next one.
    pause_ms: u64,
}

/// What a stream is used for.
enum Use {
    /// A welcome is to come. The attempt is one of those for this server.
    Greeting(Redial, Introduction),
    /// A connection of the session.
    Link(Member, u64),
}

pub struct Caller {
    identity: Identity,
    /// The attempt of an exactly-once thread, which says so from its first hello on.
    attempt: Option<Attempt>,
    random: u64,
    /// `None`: no server was reached yet.
    session: Option<Session<()>>,
    streams: BTreeMap<u64, Use>,
    has_begun: bool,
    is_probing: bool,
    /// When the calls and connections are looked at next that come with each tick.
    tick_ms: u64,
    /// When it looks around next.
    look_ms: u64,
    pub asks: Vec<Ask>,
    /// A server has said that it has ended the session.
    pub has_expired: bool,
    /// A server has said that a newer attempt has begun, or that the thread was cancelled.
    pub is_fenced: bool,
    /// The results of requests, in the order in which they came.
    pub results: Vec<(Sequence, Result<Vec<u8>>)>,
}

impl Caller {
    /// A client that owns a run.
    pub fn new(id: SessionId, random: u64) -> Caller {
        Caller::of(identity(id, id, true), None, random)
    }

    /// The process of an attempt, in a run of this owner.
    pub fn of_attempt(attempt: Attempt, id: SessionId, owner: SessionId, random: u64) -> Caller {
        let session = match attempt.exactly_once {
            true => attempt.thread.session(),
            false => id,
        };
        let mut identity = identity(session, owner, false);
        identity.is_exactly_once = attempt.exactly_once;
        Caller::of(identity, Some(attempt).filter(|a| a.exactly_once), random)
    }

    fn of(identity: Identity, attempt: Option<Attempt>, random: u64) -> Caller {
        Caller {
            identity,
            attempt,
            random,
            session: None,
            streams: BTreeMap::new(),
            has_begun: false,
            is_probing: false,
            tick_ms: 0,
            look_ms: u64::MAX,
            asks: Vec::new(),
            has_expired: false,
            is_fenced: false,
            results: Vec::new(),
        }
    }

    pub fn session_id(&self) -> SessionId {
        self.identity.session
    }

    /// Whether a server is connected.
    pub fn is_up(&self, member: Member) -> bool {
        self.session.as_ref().is_some_and(|s| s.is_up(member))
    }

    /// The process runs this attempt from here on. Servers that are connected later are told so in the hello.
    pub fn set_attempt(&mut self, attempt: Attempt) {
        if let Some(session) = &mut self.session {
            session.set_attempt(attempt);
        }
    }

    /// Notes that attempts of a thread are over, for servers that join later.
    pub fn record_fence(&mut self, thread: ThreadId, before: u32) -> Option<Fence> {
        let session = self.session.as_mut()?;
        Some(session.record_fence(thread, before))
    }

    /// The process may do nothing more, by the word of a server.
    fn end_fenced(&mut self) {
        self.is_fenced = true;
        if let Some(session) = &mut self.session {
            session.end(Error::Fenced);
            let failed = session.fail_all(Error::Fenced);
            self.fail(failed);
        }
    }

    /// Whether it has looked for a first server.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Looks for a first server.
    pub fn start(&mut self, stream: u64) {
        self.has_begun = true;
        self.on_redial(FIRST_OF_ANY, stream);
    }

    /// The servers that it knows.
    pub fn members(&self) -> Vec<Member> {
        let session = self.session.as_ref();
        session.map_or_else(Vec::new, |session| session.table().members().to_vec())
    }

    /// Where a request about an object goes.
    pub fn primary_of(&self, object: &ObjectId) -> Option<NodeId> {
        let table = self.session.as_ref()?.table();
        let place = table.place_of_object(object)?;
        Some(NodeId(table.members()[place].node))
    }

    /// Sends a request, or will send it when that is possible. `None`: there is no session.
    pub fn submit(
        &mut self,
        target: Target,
        operation: &Operation,
        now_ms: u64,
    ) -> Option<Sequence> {
        let session = self.session.as_mut()?;
        let place = session.table().place_for(&target);
        let submitted = session.submit(
            place,
            Request {
                target,
                frame: encode(operation),
                is_in_band: false,
                waiter: (),
            },
        );
        let submitted = submitted.ok()?;
        let member = place.map(|place| session.table().members()[place]);
        if let Some(member) = member {
            if submitted.write {
                self.write(member, submitted.call.frame.clone());
            }
            if submitted.connect {
                self.connect(member, now_ms);
            }
        }
        if let Some(report) = &submitted.report {
            self.report(report);
        }
        Some(submitted.call.sequence)
    }

    fn report(&mut self, report: &InFlight) {
        let mut bytes = Vec::new();
        frame::write_in_flight(report, &mut bytes).expect("a list of numbers");
        for member in self.members() {
            self.write(member, bytes.clone());
        }
    }

    /// Withdraws a call of an object.
    pub fn withdraw(&mut self, sequence: Sequence, object: ObjectId) {
        let Some(session) = &mut self.session else {
            return;
        };
        let mut at = None;
        loop {
            match session.withdraw(sequence, at) {
                Withdrawal::Elsewhere(member) => at = member,
                Withdrawal::Done => return,
                Withdrawal::Write => break,
            }
        }
        if let Some(member) = at {
            let mut bytes = Vec::new();
            frame::write_cancel(sequence, object, &mut bytes).expect("of a constant size");
            self.write(member, bytes);
        }
    }

    /// Ends the session at all servers that are connected.
    pub fn say_goodbye(&mut self, now_ms: u64) {
        for member in self.members() {
            if self.session.as_ref().is_some_and(|s| s.is_up(member)) {
                self.submit(Target::Member(member), &Operation::Goodbye, now_ms);
            }
        }
        if let Some(session) = &mut self.session {
            session.end(Error::Cancelled);
        }
    }

    /// A stream is connected.
    pub fn on_dialed(&mut self, stream: u64) {
        if let Some(Use::Greeting(_, introduction)) = self.streams.get(&stream) {
            let mut bytes = Vec::new();
            frame::write_hello(&introduction.hello, &mut bytes).expect("a hello");
            self.asks.push(Ask::Send(stream, bytes));
        }
    }

    /// A stream is closed, or was never connected.
    pub fn on_closed(&mut self, stream: u64, now_ms: u64) {
        match self.streams.remove(&stream) {
            Some(Use::Greeting(attempt, _)) => self.on_not_connected(attempt, "no connection"),
            Some(Use::Link(member, connection)) => {
                self.on_lost(member, connection, None, now_ms);
            }
            None => {}
        }
    }

    /// No welcome has come within its time.
    pub fn on_welcome_timeout(&mut self, stream: u64, now_ms: u64) {
        if let Some(Use::Greeting(..)) = self.streams.get(&stream) {
            self.asks.push(Ask::Close(stream));
            self.on_closed(stream, now_ms);
        }
    }

    fn on_not_connected(&mut self, attempt: Redial, reason: &str) {
        if let (Some(session), Some(member)) = (&mut self.session, attempt.member) {
            session.on_connect_failed(member, reason.to_owned());
        }
        self.try_again(attempt);
    }

    fn try_again(&mut self, attempt: Redial) {
        if attempt.member.is_none() && self.session.is_some() {
            // The next look decides whether others are to be tried.
            self.is_probing = false;
            return;
        }
        let next = Redial {
            pause_ms: (2 * attempt.pause_ms).min(PAUSE_LAST_MS),
            ..attempt
        };
        self.asks.push(Ask::Redial(next, attempt.pause_ms));
    }

    /// The time has come for another attempt.
    pub fn on_redial(&mut self, attempt: Redial, stream: u64) {
        let introduction = match (&self.session, attempt.member) {
            (Some(session), Some(member)) => session.introduce(member),
            (Some(_), None) => None,
            (None, _) => Some(Introduction {
                hello: self.identity.hello(self.attempt),
                fences: Vec::new(),
            }),
        };
        if let Some(introduction) = introduction {
            self.greet(stream, attempt, introduction);
        }
    }

    fn greet(&mut self, stream: u64, attempt: Redial, introduction: Introduction) {
        let to = attempt.member.map(|member| NodeId(member.node));
        self.streams
            .insert(stream, Use::Greeting(attempt, introduction));
        self.asks.push(Ask::Dial(stream, to));
    }

    /// Asks servers that it may not know of.
    pub fn probe(&mut self, stream: u64) {
        if let Some(session) = &self.session
            && !self.is_probing
            && !session.has_ended()
        {
            self.is_probing = true;
            let introduction = session.introduction();
            self.greet(stream, FIRST_OF_ANY, introduction);
        }
    }

    fn connect(&mut self, member: Member, now_ms: u64) {
        let session = self.session.as_mut();
        if session.is_some_and(|session| session.begin_connecting(member)) {
            let attempt = Redial {
                member: Some(member),
                pause_ms: PAUSE_FIRST_MS,
            };
            self.asks.push(Ask::Redial(attempt, 0));
            self.look_at(now_ms);
        }
    }

    fn connect_wanted(&mut self, now_ms: u64) {
        let wanted = self.session.as_ref().map(Session::wanted);
        for member in wanted.unwrap_or_default() {
            self.connect(member, now_ms);
        }
    }

    /// A frame came.
    pub fn on_frame(&mut self, stream: u64, frame: Bytes, now_ms: u64) {
        let response = frame::decode_response(frame).expect("a frame of the protocol");
        match self.streams.get(&stream) {
            Some(Use::Greeting(..)) => {
                let Some(Use::Greeting(attempt, introduction)) = self.streams.remove(&stream)
                else {
                    return;
                };
                self.on_greeting(stream, attempt, &introduction, response, now_ms);
            }
            Some(&Use::Link(member, connection)) => {
                self.on_response(stream, (member, connection), response, now_ms);
            }
            None => {}
        }
    }

    fn on_greeting(
        &mut self,
        stream: u64,
        attempt: Redial,
        introduction: &Introduction,
        response: Response,
        now_ms: u64,
    ) {
        match response {
            Response::Welcome(welcome) => {
                self.on_welcome(stream, attempt, introduction, welcome, now_ms);
            }
            Response::Refused(Error::Unavailable { reason, .. }) => {
                self.asks.push(Ask::Close(stream));
                self.on_not_connected(attempt, &reason);
            }
            Response::Refused(Error::Fenced) => {
                self.asks.push(Ask::Close(stream));
                self.end_fenced();
            }
            // The run may be gone there, as its owner was silent.
            Response::Refused(error @ (Error::SessionExpired | Error::Lost { .. })) => {
                self.asks.push(Ask::Close(stream));
                if let (Some(session), Some(member)) = (&mut self.session, attempt.member) {
                    let failed = session.fail_at(member, error.clone());
                    self.fail(failed);
                }
                self.on_not_connected(attempt, &error.to_string());
            }
            response => panic!("instead of a welcome: {response:?}"),
        }
    }

    fn on_welcome(
        &mut self,
        stream: u64,
        attempt: Redial,
        introduction: &Introduction,
        welcome: Welcome,
        now_ms: u64,
    ) {
        let routes = welcome.routes.clone();
        let now = Member::of(&routes, welcome.node);
        match &mut self.session {
            None => {
                let session = Session::new(
                    self.identity.clone(),
                    self.attempt,
                    self.random,
                    routes,
                    "somewhere",
                );
                self.session = Some(session.expect("routes of a cluster"));
                self.look_at(now_ms);
            }
            Some(session) => {
                let fit = session.fit(attempt.member, &welcome);
                assert_eq!(fit, Ok(Fit::Ours), "there is one cluster");
                self.on_routes(routes, now_ms);
            }
        }
        let is_member = |member: &Member| self.members().contains(member);
        match now.filter(is_member) {
            Some(member) => self.attach(stream, member, introduction, &welcome, now_ms),
            None => self.asks.push(Ask::Close(stream)),
        }
        if attempt.member.is_none() || now != attempt.member {
            self.try_again(attempt);
        }
        self.connect_wanted(now_ms);
    }

    fn attach(
        &mut self,
        stream: u64,
        member: Member,
        introduction: &Introduction,
        welcome: &Welcome,
        now_ms: u64,
    ) {
        let Some(session) = &mut self.session else {
            return;
        };
        self.has_expired |= !welcome.resumed;
        let mut frames = Vec::new();
        let connected = match session.is_up(member) {
            true => None,
            false => session.on_connected(member, introduction, welcome, now_ms, &mut frames),
        };
        let Some((connection, expired)) = connected else {
            return self.asks.push(Ask::Close(stream));
        };
        self.streams.insert(stream, Use::Link(member, connection));
        self.write(member, frames);
        self.fail(expired);
    }

    fn on_response(
        &mut self,
        stream: u64,
        (member, connection): (Member, u64),
        response: Response,
        now_ms: u64,
    ) {
        let Some(session) = &mut self.session else {
            return;
        };
        session.on_heard(member, now_ms);
        match response {
            Response::Reply { sequence, result } => {
                if session.on_reply(sequence, connection).is_some() {
                    self.results.push((sequence, result.map(Into::into)));
                } else if result.is_ok() {
                    session.on_sign_answered(sequence, connection);
                }
            }
            Response::Routes(routes) => self.on_routes(routes, now_ms),
            Response::Moved { sequence, routes } => {
                session.on_moved(sequence, connection, routes, now_ms);
                self.look_at(now_ms);
            }
            Response::Refused(error) => {
                self.streams.remove(&stream);
                self.asks.push(Ask::Close(stream));
                if error == Error::Fenced {
                    return self.end_fenced();
                }
                let refusal = match error {
                    Error::Unavailable { .. } => None,
                    error => Some(error),
                };
                self.on_lost(member, connection, refusal, now_ms);
            }
            Response::Welcome(_) => panic!("a second welcome"),
        }
    }

    fn on_lost(&mut self, member: Member, connection: u64, refusal: Option<Error>, now_ms: u64) {
        let Some(session) = &mut self.session else {
            return;
        };
        let disconnected = session.on_disconnected(member, connection, refusal, now_ms);
        if let Some(failed) = disconnected.failed {
            self.fail(failed);
        }
        if disconnected.reconnect {
            self.connect(member, now_ms);
        }
    }

    fn on_routes(&mut self, routes: frame::Routes, now_ms: u64) {
        let Some(session) = &mut self.session else {
            return;
        };
        let newer = session.newer_table(routes, "somewhere");
        let Some(table) = newer.expect("there is one cluster") else {
            return;
        };
        let Rerouted { frames, failed, .. } = session.take_table(table.clone(), now_ms);
        self.close_links_to_others(&table);
        for (member, frames) in table.members().iter().zip(frames) {
            self.write(*member, frames);
        }
        self.fail(failed);
        self.connect_wanted(now_ms);
    }

    fn close_links_to_others(&mut self, table: &Table) {
        let is_gone = |_: &u64, usage: &mut Use| match usage {
            Use::Link(member, _) => table.place_of(*member).is_none(),
            Use::Greeting(..) => false,
        };
        let gone: Vec<u64> = self
            .streams
            .extract_if(.., is_gone)
            .map(|(s, _)| s)
            .collect();
        self.asks.extend(gone.into_iter().map(Ask::Close));
    }

    fn fail(&mut self, failed: Failed<()>) {
        for call in failed.calls {
            self.results
                .push((call.sequence, Err(failed.error.clone())));
        }
    }

    fn write(&mut self, member: Member, frames: Vec<u8>) {
        let is_it = |usage: &Use| matches!(usage, Use::Link(linked, _) if *linked == member);
        let link = self.streams.iter().find(|(_, usage)| is_it(usage));
        if let (Some((stream, _)), false) = (link, frames.is_empty()) {
            self.asks.push(Ask::Send(*stream, frames));
        }
    }

    fn look_at(&mut self, at_ms: u64) {
        if at_ms < self.look_ms {
            self.look_ms = at_ms;
            self.asks.push(Ask::Look(at_ms));
        }
    }

    /// Looks around, as was asked for at this time. `stream` may be used for a new one.
    pub fn on_look(&mut self, asked_ms: u64, now_ms: u64, stream: u64) {
        if asked_ms != self.look_ms {
            return;
        }
        self.look_ms = u64::MAX;
        let Some(session) = &mut self.session else {
            return;
        };
        if session.has_ended() {
            return;
        }
        let mut written = Vec::new();
        for member in session.signs_due(now_ms) {
            let mut frames = Vec::new();
            session.write_sign(member, now_ms, &mut frames);
            written.push((member, frames));
        }
        let mut lacks_news = false;
        if let Some(due) = session.due(now_ms) {
            lacks_news = due.lacks_routes;
            for member in session.table().members().to_vec() {
                let mut frames = Vec::new();
                session.send_due(&due, member, &mut frames);
                written.push((member, frames));
            }
            session.postpone_due(now_ms);
        }
        let mut probes = false;
        if now_ms >= self.tick_ms {
            self.tick_ms = now_ms + TICK_MS;
            for (call, error) in session.take_overdue(PATIENCE, now_ms) {
                self.results.push((call.sequence, Err(error)));
            }
            lacks_news |= session.lacks_news(now_ms);
            probes = session.begin_probing(now_ms);
        }
        let next_ms = session.next_look_ms(now_ms);
        self.look_at(next_ms.max(now_ms + 1));
        for (member, frames) in written {
            self.write(member, frames);
        }
        self.connect_wanted(now_ms);
        if lacks_news {
            for member in self.members() {
                self.connect(member, now_ms);
            }
        }
        if probes {
            self.probe(stream);
        }
    }
}

/// The run of this owner.
pub fn run_of(owner: SessionId) -> RunId {
    let mut run = [0; 16];
    run[..8].copy_from_slice(&owner.0.to_le_bytes());
    RunId(run)
}

fn identity(session: SessionId, owner: SessionId, is_owner: bool) -> Identity {
    Identity {
        session,
        run: run_of(owner),
        owner: is_owner,
        namespace: NAMESPACE.to_owned(),
        is_exactly_once: false,
    }
}

/// The first attempt to connect to any server.
const FIRST_OF_ANY: Redial = Redial {
    member: None,
    pause_ms: PAUSE_FIRST_MS,
};

fn encode(operation: &Operation) -> Vec<u8> {
    let mut bytes = Vec::new();
    let nothing = Sequence(0);
    let written = match operation {
        Operation::Call(call) => frame::write_call(
            &CallFrame {
                sequence: nothing,
                acked: nothing,
                object: call.object,
                method: call.method,
                timeout_ms: call.timeout_ms,
                args: &call.args,
            },
            &mut bytes,
        ),
        operation => frame::write_operation(nothing, nothing, operation, &mut bytes),
    };
    written.expect("a request of the simulation");
    bytes
}
