//! Requests of clients: the handshake, and what each request means. Requests about an object are offered to it.

use std::sync::Arc;

use crucial_core::frame::{
    Attempt, Fence, Hello, Operation, Request, VERSION, Welcome, write_welcome,
};
use crucial_object::{Error, Result, encode};

use crate::connection::Connection;
use crate::ids::Millis;
use crate::node::Node;
use crate::objects::{Event, ObjectRequest, RequestContext, SessionEnd, Task};
use crate::outputs::{Output, Outputs};
use crate::rounds::RoundKind;
use crate::session::Session;
use crate::timers::Timer;

/// A new connection has this long to say hello, in milliseconds.
const HELLO_TIMEOUT_MS: Millis = 10_000;

impl Node {
    /// A connection was accepted. If there are too many it gets a refusal.
    pub(crate) fn on_connected(
        &self,
        connection: &Arc<Connection>,
        now: Millis,
        out: &mut Outputs,
    ) {
        if self.count_connection(true) > self.limits.connections_max {
            let error = Error::LimitExceeded {
                limit: "connections_max".to_owned(),
                max: self.limits.connections_max as u64,
                detail: "close some, or start the server with a larger limit".to_owned(),
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
            session.detach(connection.id);
        }
        if let Some(peer) = connection.peer()
            && peer.is_outgoing
        {
            self.peers.on_down(peer.node(), Some(connection.id), now);
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
        // A client that sends requests behind its hello, without a wait for the welcome.
        self.on_welcomed(&connection, out);
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
                let event = Event::Request(context, ObjectRequest::Withdraw);
                self.offer(object, event, out);
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
        let routes = self.membership.routes();
        let greeting = self.sessions.hello(&hello, now)?;
        if let (Some(older), Some(attempt)) = (greeting.older, hello.attempt) {
            self.end_attempt(older, attempt.thread, now, out);
        }
        let session = greeting.session;
        if !connection.set_session(session.clone()) {
            return Err(Error::Protocol {
                detail: "a second hello on one connection".to_owned(),
            });
        }
        let welcome = Welcome {
            resumed: greeting.resumed,
            lease_ms: self.client_lease_ms,
            frame_bytes_max: self.limits.frame_bytes_max as u64,
            features: 0,
            node: self.membership.me.0,
            routes: routes.routes.clone(),
        };
        connection.set_routes(hello.routes);
        connection.set_welcome(welcome.routes.version);
        // From now on an older attempt can change nothing.
        if let Some(previous) = session.detach_any() {
            out.close(previous);
        }
        out.frame(connection.id, |bytes| write_welcome(&welcome, bytes));
        out.push(Output::Welcomed(connection.clone()));
        Ok(())
    }

    /// The welcome is in the connection's buffer. From now on other threads send on this connection, too; a reply that was
    /// ready before would have come before the welcome. Does nothing the second time.
    pub fn on_welcomed(&self, connection: &Connection, out: &mut Outputs) {
        let (Some(version), Some(session)) = (connection.take_welcome(), connection.session())
        else {
            return;
        };
        if connection.is_closed() {
            return;
        }
        if let Some(previous) = session.attach(connection.id, version) {
            out.close(previous);
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
            Operation::Ping => return self.reply(&context, Ok(&[]), out),
            operation => {
                if context.session.accepts(context.connection.id) {
                    self.on_server_operation(context, operation, now, out);
                }
                return;
            }
        };
        let max = self.limits.queued_calls_max;
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
            Operation::Inspect(inspect) => self.on_inspect(context, inspect, out),
            Operation::Push {
                replace,
                check,
                module,
            } => self.on_push(context, module, (replace, check), now, out),
            Operation::RemoveModule(id) => self.on_remove_module(context, id, now, out),
            Operation::Call(_)
            | Operation::Open(_)
            | Operation::Delete(_)
            | Operation::ClearPoison(_)
            | Operation::Ping => {}
        }
    }

    /// The session's cloud thread begins. It belongs to no other session any more.
    fn on_begin(&self, context: &RequestContext, attempt: Attempt, now: Millis, out: &mut Outputs) {
        match self.sessions.begin(&context.session, attempt) {
            Ok(older) => {
                if let Some(older) = older {
                    self.end_attempt(older, attempt.thread, now, out);
                }
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
        if let Ok(Some(session)) = fenced {
            self.end_attempt(session, thread, now, out);
        }
        let done = fenced.as_ref().map(|_| &[] as &[u8]);
        self.reply(context, done, out);
    }

    /// Removes objects, each in line with its calls.
    pub(crate) fn remove_all(
        &self,
        kind: RoundKind,
        objects: Vec<crucial_object::ObjectId>,
        out: &mut Outputs,
    ) {
        if objects.is_empty() {
            return out.ended_rounds.push_back(kind);
        }
        let round = self.rounds.begin(kind, objects.len());
        for object in objects {
            self.offer(object, Event::Remove(Some(round)), out);
        }
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
        self.send_routes(&context.session, out);
        let version = self.version().0;
        out.frame(context.connection.id, |bytes| {
            crucial_core::frame::write_moved(context.sequence, version, bytes)
        });
    }

    /// Sends a client the newest routes, unless it was sent them.
    pub(crate) fn send_routes(&self, session: &Session, out: &mut Outputs) {
        let routes = self.membership.routes();
        if let Some(to) = session.must_send_routes(routes.routes.version) {
            out.frame(to, |bytes| {
                bytes.extend_from_slice(&routes.frame);
                Ok(())
            });
        }
    }

    /// Asks for the encoded state of an object. The answer is among the outputs, with this token.
    pub fn save(
        &self,
        object: crucial_object::ObjectId,
        token: u64,
        now: Millis,
        out: &mut Outputs,
    ) {
        let objects = match self.exists(&object) {
            true => vec![object],
            false => Vec::new(),
        };
        let kind = RoundKind::Save { token, state: None };
        self.round(kind, objects, |_| Task::Save, out);
        self.begin_turns(now, out);
    }
}
