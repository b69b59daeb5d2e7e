//! Requests of clients: the handshake, and what each request means. Requests about an object are offered to it.

use std::sync::Arc;

use crucial_object::{Error, Result, SessionId, encode};
use crucial_proto::frame::{
    Attempt, Fence, Hello, Operation, Request, VERSION, Welcome, write_welcome,
};

use crate::admit::too_many_wait;
use crate::connection::Connection;
use crate::early::{Added, Addressed, EARLY_MAX_MS};
use crate::ids::Millis;
use crate::node::Node;
use crate::objects::{Event, ObjectRequest, RequestContext, SessionEnd};
use crate::outputs::{Greeted, Output, Outputs};
use crate::peers::Ended;
use crate::replication::{Command, Configuration, Mutant, ViewVersion};
use crate::rounds::RoundKind;
use crate::session::{Fenced, Session, Withheld};
use crate::timers::Timer;

/// A new connection has this long to say hello, in milliseconds.
const HELLO_TIMEOUT_MS: Millis = 10_000;

/// Connections that are no clients': those of other servers, and those on which nobody has said hello yet. Clients, of
/// which there are `connections_max`, take none of their room: a server that could not be reached by the others would be
/// taken for dead.
const OTHER_CONNECTIONS_MAX: usize = 1024;

impl Node {
    /// A connection was accepted. If there are too many it gets a refusal.
    pub(crate) fn on_connected(
        &self,
        connection: &Arc<Connection>,
        now: Millis,
        out: &mut Outputs,
    ) {
        let all = self.count_connection(true);
        // Another thread may count in between.
        let others = all.saturating_sub(self.client_connections());
        if others > OTHER_CONNECTIONS_MAX {
            let error = Error::LimitExceeded {
                limit: "OTHER_CONNECTIONS_MAX".to_owned(),
                max: OTHER_CONNECTIONS_MAX as u64,
                detail: "this many connections have not said hello yet".to_owned(),
            };
            out.refuse(connection.id, &error);
        }
        let timer = Timer::Hello(Arc::downgrade(connection));
        self.add_timer(now + HELLO_TIMEOUT_MS, timer, out);
    }

    pub(crate) fn on_closed(&self, connection: &Arc<Connection>, now: Millis) {
        self.count_connection(false);
        connection.set_closed();
        if let Some(session) = connection.session() {
            self.count_client_connection(false);
            session.detach(connection.id);
        }
        if let Some(peer) = connection.peer()
            && peer.is_outgoing
        {
            let ended = Ended::Connection(connection.id);
            self.peers.on_down(peer.node(), ended, now);
        }
    }

    /// The client at the other end of a connection gives signs of life, though nothing may be taken from it just now.
    pub fn set_seen(&self, connection: &Connection, now: Millis) {
        if let Some(session) = connection.session() {
            session.set_seen(now);
        }
    }

    /// Refuses a connection, on which something came that cannot be understood.
    pub fn refuse(&self, connection: &Connection, error: &Error, out: &mut Outputs) {
        out.refuse(connection.id, error);
    }

    /// Nobody said hello on a connection.
    pub(crate) fn on_hello_timeout(&self, connection: &Connection, out: &mut Outputs) {
        if !connection.is_known() && !connection.is_closed() {
            let error = Error::Protocol {
                detail: format!("no hello within {} s", HELLO_TIMEOUT_MS / 1000),
            };
            out.refuse(connection.id, &error);
        }
    }

    pub(crate) fn on_request(
        &self,
        connection: Arc<Connection>,
        request: Request,
        now: Millis,
        out: &mut Outputs,
    ) {
        let session = match (connection.session(), request) {
            (_, Request::Hello { version, hello }) => {
                if let Err(error) = self.on_hello(&connection, (version, hello), now, out) {
                    out.refuse(connection.id, &error);
                }
                return;
            }
            (None, _) => {
                let error = Error::Protocol {
                    detail: "a request before the hello".to_owned(),
                };
                return out.refuse(connection.id, &error);
            }
            (Some(session), Request::Routes(version)) => {
                session.set_seen(now);
                return connection.set_routes(version);
            }
            (Some(session), Request::InFlight(in_flight)) => {
                session.set_seen(now);
                return session.set_in_flight(in_flight);
            }
            (Some(session), request) => (session.clone(), request),
        };
        let (session, request) = session;
        session.set_seen(now);
        let context = |sequence, acked| RequestContext {
            routes: connection.routes(),
            session,
            connection: connection.clone(),
            sequence,
            acked,
            retried: false,
        };
        match request {
            Request::Cancel { sequence, object } => {
                let context = context(sequence, crucial_object::Sequence(0));
                let request = ObjectRequest::Withdraw;
                let addressed = Addressed {
                    object,
                    context,
                    request,
                };
                self.offer_in_order(addressed, now, out);
            }
            Request::Numbered {
                sequence,
                acked,
                operation,
            } => self.on_operation(context(sequence, acked), operation, now, out),
            Request::Hello { .. } | Request::Routes(_) | Request::InFlight(_) => {}
        }
    }

    /// The handshake. An error closes the connection.
    fn on_hello(
        &self,
        connection: &Arc<Connection>,
        (version, hello): (u16, Option<Hello>),
        now: Millis,
        out: &mut Outputs,
    ) -> Result<()> {
        let second = || Error::Protocol {
            detail: "a second hello on one connection".to_owned(),
        };
        if connection.is_known() {
            return Err(second());
        }
        let Some(hello) = hello else {
            return Err(Error::Protocol {
                detail: format!(
                    "the client speaks version {version}, this server version {VERSION}: build both from the same release"
                ),
            });
        };
        if !self.membership.is_member() {
            return Err(Error::Unavailable {
                address: "the server".to_owned(),
                reason: "it is not part of the cluster yet, or not any more".to_owned(),
            });
        }
        if self.client_connections() >= self.limits.connections_max {
            return Err(Error::LimitExceeded {
                limit: "connections_max".to_owned(),
                max: self.limits.connections_max as u64,
                detail: "close some, or start the server with a larger limit".to_owned(),
            });
        }
        let routes = self.membership.routes();
        let greeting = self.sessions.hello(&hello, now)?;
        if let (Some(older), Some(attempt)) = (greeting.older, hello.attempt) {
            self.end_attempt(older, attempt.thread, now, out);
        }
        let session = greeting.session;
        if let Some(attempt) = hello.attempt {
            self.end_waiting(attempt.thread, attempt.number, out);
        }
        if !connection.set_session(session.clone()) {
            return Err(second());
        }
        self.count_client_connection(true);
        let welcome = Welcome {
            resumed: greeting.resumed,
            lease_ms: self.client_lease_ms,
            frame_bytes_max: self.limits.frame_bytes_max as u64,
            features: 0,
            node: self.membership.me.0,
            routes: routes.routes.clone(),
        };
        connection.set_routes(hello.routes);
        out.frame(connection.id, |bytes| write_welcome(&welcome, bytes));
        // Another thread could send something on the connection before this one has sent the welcome.
        out.push(Output::Greeted(Greeted {
            connection: connection.clone(),
            hello: session.greet(connection.id),
            routes: welcome.routes.version,
        }));
        Ok(())
    }

    /// A welcome was handed to its connection, on which other things may come from here on.
    pub(crate) fn on_greeted(&self, greeted: &Greeted, out: &mut Outputs) {
        let Greeted {
            connection,
            hello,
            routes,
        } = greeted;
        let Some(session) = connection.session() else {
            return;
        };
        let attached = session.attach(*hello, connection.id, *routes);
        if connection.is_closed() {
            // With the earlier one, which closes now, the client has none, and asks again for what was withheld.
            session.detach(connection.id);
        }
        if let Some(closed) = attached.closed {
            out.close(closed);
        }
        for Withheld { sequence, result } in attached.withheld {
            let max = self.limits.frame_bytes_max;
            out.reply(connection.id, sequence, result.as_deref(), max);
        }
        if session.has_ended() {
            // The session ended behind the hello, and its end may not have seen this connection.
            out.close(connection.id);
        }
        // Newer routes may have come since.
        self.send_routes(session, out);
    }

    fn on_operation(
        &self,
        context: RequestContext,
        operation: Operation,
        now: Millis,
        out: &mut Outputs,
    ) {
        if !context.session.acknowledge(context.sequence, context.acked) {
            return;
        }
        let (object, request) = match operation {
            Operation::Call(request) => (request.object, ObjectRequest::Call(request)),
            Operation::ClearPoison(object) => (object, ObjectRequest::ClearPoison),
            Operation::Delete(object) => (object, ObjectRequest::Delete),
            Operation::Open(request) => {
                let session = &context.session;
                let object = request.object(&session.run, &session.namespace);
                (object, ObjectRequest::Open(Box::new(request)))
            }
            Operation::Ping => return self.on_ping(&context, now, out),
            operation => {
                if context.session.accepts(context.connection.id) {
                    self.on_server_operation(context, operation, now, out);
                }
                return;
            }
        };
        let max = self.limits.unacknowledged_calls_max as u64;
        if context.session.unacknowledged(context.sequence) > max {
            let error = Error::LimitExceeded {
                limit: "unacknowledged_calls_max".to_owned(),
                max,
                detail: "the client has to acknowledge the results that it has seen".to_owned(),
            };
            return self.reply(&context, Err(&error), out);
        }
        let addressed = Addressed {
            object,
            context,
            request,
        };
        self.offer_in_order(addressed, now, out);
    }

    /// An answer says that this server serves: by it a client knows for how long results are kept for it here. Without a
    /// lease another server may have taken this one's place, and keeps them as if the client was silent.
    fn on_ping(&self, context: &RequestContext, now: Millis, out: &mut Outputs) {
        if self.membership.has_lease(now) || Mutant::PongWithoutLease.is_planted() {
            return self.reply(context, Ok(&[]), out);
        }
        if let Some(oldest) = context.session.hold_ping(context.sequence) {
            let error = Error::Unavailable {
                address: "the server".to_owned(),
                reason: "it has had no lease for a while".to_owned(),
            };
            let max = self.limits.frame_bytes_max;
            out.reply(context.connection.id, oldest, Err(&error), max);
        }
        self.membership.note_held_ping();
    }

    /// This server has a lease again: answers the pings that waited for it.
    pub(crate) fn answer_held_pings(&self, out: &mut Outputs) {
        if !self.membership.take_held_pings() {
            return;
        }
        for session in self.sessions.live() {
            let connection = session.connection();
            let max = self.limits.frame_bytes_max;
            for sequence in session.take_pings() {
                if let Some(to) = connection {
                    out.reply(to, sequence, Ok(&[]), max);
                }
            }
        }
    }

    /// Offers a request to its object, behind those of its session that wait for routes.
    fn offer_in_order(&self, addressed: Addressed, now: Millis, out: &mut Outputs) {
        let session = addressed.context.session.id;
        let is_early = addressed.context.routes > self.membership.routes_version().0;
        if !is_early && !self.early.has(session) {
            return self.offer_request(addressed, out);
        }
        let max = self.limits.waiting_requests_max;
        match self.early.add(addressed, max, now) {
            Added::First => self.add_timer(now + EARLY_MAX_MS, Timer::Early(session), out),
            Added::Behind => {}
            Added::Full(refused) => {
                self.reply(&refused.context, Err(&too_many_wait(max)), out);
            }
        }
        // The routes may have come meanwhile.
        self.release_early(session, out);
    }

    /// Offers the requests of a session that waited for a view, if this server has it now.
    pub(crate) fn release_early(&self, session: SessionId, out: &mut Outputs) {
        if self.early.begin(session) {
            let version = || self.membership.routes_version();
            while let Some(addressed) = self.early.next(session, version) {
                self.offer_request(addressed, out);
            }
        }
    }

    /// Requests of a session have waited for a view that does not come: the client has to send them again.
    pub(crate) fn give_up_early(&self, session: SessionId, now: Millis, out: &mut Outputs) {
        match self.early.give_up(session, now) {
            Ok(given_up) => {
                for Addressed {
                    context, request, ..
                } in given_up
                {
                    if !matches!(request, ObjectRequest::Withdraw) {
                        self.send_moved(&context, out);
                    }
                }
            }
            Err(until) => self.add_timer(until, Timer::Early(session), out),
        }
    }

    fn offer_request(&self, addressed: Addressed, out: &mut Outputs) {
        let Addressed {
            object,
            context,
            request,
        } = addressed;
        let max = match request {
            ObjectRequest::Withdraw => usize::MAX,
            _ => self.limits.queued_calls_max,
        };
        let event = Event::Request(context, request);
        let refused = self.offer_up_to(max, object, event, out);
        if let Some(context) = refused.as_ref().and_then(Event::context) {
            let error = Error::LimitExceeded {
                limit: "queued_calls_max".to_owned(),
                max: max as u64,
                detail: "this many calls queue for the object, where a method takes long"
                    .to_owned(),
            };
            self.reply(context, Err(&error), out);
        }
    }

    /// A request that is not about one object.
    fn on_server_operation(
        &self,
        context: RequestContext,
        operation: Operation,
        now: Millis,
        out: &mut Outputs,
    ) {
        match operation {
            Operation::Goodbye => {
                self.reply(&context, Ok(&[]), out);
                self.end_session(context.session.id, SessionEnd::Known, now, out);
            }
            Operation::Begin(attempt) => self.on_begin(&context, attempt, now, out),
            Operation::Fence(fence) => self.on_fence(&context, fence, now, out),
            Operation::ClearNamespace => {
                let objects = self.homes.of_namespace(&context.session.namespace);
                let kind = RoundKind::Remove {
                    context: Some(context),
                    removed: 0,
                };
                self.remove_all(kind, objects, out);
            }
            Operation::Modules => {
                let modules = encode(&self.list_modules());
                self.reply(&context, modules.as_deref(), out);
            }
            Operation::Inspect(inspect) => self.on_inspect(context, inspect, now, out),
            Operation::Push {
                replace,
                check,
                module,
            } => self.on_push(context, module, (replace, check), now, out),
            Operation::RemoveModule(id) => self.on_remove_module(context, id, now, out),
            Operation::ForgetLost(seen) => self.on_forget_lost(&context, ViewVersion(seen), out),
            Operation::Call(_)
            | Operation::Open(_)
            | Operation::Delete(_)
            | Operation::ClearPoison(_)
            | Operation::Ping => {}
        }
    }

    /// An operator says that what is gone may be forgotten. The answer says how much this server has still to hear of that.
    fn on_forget_lost(&self, context: &RequestContext, seen: ViewVersion, out: &mut Outputs) {
        let view = self.membership.view();
        let partitions = view.configurations.iter();
        let is_left = |partition: &&Arc<Configuration>| {
            partition.is_amnesic() && partition.amnesic_since <= seen
        };
        let left = partitions.filter(is_left).count() as u64;
        if left > 0 {
            out.push(Output::Propose(Command::Forget { seen }));
        }
        self.reply_encoded(context, &left, out);
    }

    /// The session's cloud thread begins. It belongs to no other session any more.
    fn on_begin(&self, context: &RequestContext, attempt: Attempt, now: Millis, out: &mut Outputs) {
        match self.sessions.begin(&context.session, attempt) {
            Ok(older) => {
                if let Some(older) = older {
                    self.end_attempt(older, attempt.thread, now, out);
                }
                self.end_waiting(attempt.thread, attempt.number, out);
                self.reply(context, Ok(&[]), out);
            }
            Err(fenced) => {
                self.reply(context, Err(&fenced), out);
                self.end_session(context.session.id, SessionEnd::Known, now, out);
            }
        }
    }

    /// Older attempts of a cloud thread may change nothing any more.
    fn on_fence(&self, context: &RequestContext, fence: Fence, now: Millis, out: &mut Outputs) {
        let thread = fence.thread;
        let fenced = self.sessions.fence(&context.session, fence);
        if fence.before == Fence::ALL
            && let Some(objects) = self.sessions.end_expected(thread.session())
        {
            self.tell_ended((thread.session(), SessionEnd::Known), objects, now, out);
        }
        match fenced {
            Ok(Some(Fenced::Session(session))) => self.end_attempt(session, thread, now, out),
            Ok(Some(Fenced::Connection(session))) => {
                let session = self.sessions.find(session);
                if let Some(connection) = session.and_then(|session| session.fence()) {
                    out.close(connection);
                }
            }
            Ok(None) | Err(_) => {}
        }
        if fenced.is_ok() {
            self.end_waiting(thread, fence.before, out);
        }
        let done = fenced.as_ref().map(|_| &[] as &[u8]);
        self.reply(context, done, out);
    }

    /// A request's round is through.
    pub(crate) fn end_request_round(&self, kind: RoundKind, now: Millis, out: &mut Outputs) {
        match kind {
            RoundKind::Remove {
                context: Some(context),
                removed,
            } => self.reply_encoded(&context, &removed, out),
            RoundKind::Objects {
                context,
                infos,
                max,
                ..
            } => self.end_objects_round(&context, (infos, max), out),
            RoundKind::Replicas { context, mut infos } => {
                infos.sort_unstable_by_key(|info| info.id);
                self.reply_encoded(&context, &infos, out);
            }
            RoundKind::Save { token, state } => out.push(Output::Saved(token, state)),
            kind => self.end_module_round(kind, now, out),
        }
    }

    pub(crate) fn reply_encoded(
        &self,
        context: &RequestContext,
        value: &impl serde::Serialize,
        out: &mut Outputs,
    ) {
        let encoded = encode(value);
        self.reply(context, encoded.as_deref(), out);
    }

    /// The request was not executed here: its client has to look where newer routes say.
    pub(crate) fn send_moved(&self, context: &RequestContext, out: &mut Outputs) {
        let version = self.send_routes(&context.session, out);
        out.frame(context.connection.id, |bytes| {
            crucial_proto::frame::write_moved(context.sequence, version, bytes)
        });
    }

    /// Sends a client the newest routes, unless it was sent them. Gives their version.
    pub(crate) fn send_routes(&self, session: &Session, out: &mut Outputs) -> u64 {
        let routes = self.membership.routes();
        if let Some(to) = session.must_send_routes(routes.routes.version) {
            out.frame(to, |bytes| {
                bytes.extend_from_slice(&routes.frame);
                Ok(())
            });
        }
        routes.routes.version
    }
}
