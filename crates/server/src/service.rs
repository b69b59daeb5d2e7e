//! What each request does.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crucial_core::frame::{
    Attempt, CallRequest, Fence, Hello, ModuleInfo, OpenMode, OpenRequest, Operation, Pushed,
    RouteServer, Routes, VERSION, Welcome,
};
use crucial_core::{Call, CallId, Cell, Disposition, Recording, Replies, Turn, frame};
use crucial_object::{Error, ObjectId, Result, Sequence, SessionId, ThreadId, TypeInfo, encode};

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::cluster::{Cluster, Results};
use crate::connection::Connection;
use crate::event_loop::Loops;
use crate::keeper::Keeper;
use crate::session::{Session, Sessions};
use crate::slot::{Act, Arrival, Ending, Event, Held, Item, Slot, Visit};
use crate::table::Table;
use crate::types::{Newcomer, Types, Version};
use crate::{Config, Limits};

/// What all threads of a server share.
pub(crate) struct Service {
    pub limits: Limits,
    pub lease: Duration,
    pub spin: Duration,
    at_least_once: bool,
    pub types: Types,
    /// `None`: the server is alone.
    pub cluster: Option<Cluster>,
    /// The routes of a server that is alone.
    own_routes: Routes,
    loops: OnceLock<Weak<Loops>>,
    pub table: Table,
    pub sessions: Sessions,
    pub keeper: Keeper,
    clock: Clock,
    stopping: AtomicBool,
    connections: AtomicUsize,
    long_methods: AtomicUsize,
    /// Why the server can not go on.
    failure: (Mutex<Option<String>>, parking_lot::Condvar),
}

/// A request that is ready to be executed.
pub(crate) enum Job {
    /// An event for an object that is ours now.
    Object(Arc<Slot>, Held, Event),
    /// A creation or deletion.
    Lifecycle(Arrival, Operation),
    /// Another server says something about partitions.
    Peer(Arc<Connection>, Bytes),
    /// What comes after something else.
    Then(Then),
}

/// Something to do with a service.
pub(crate) type Then = Box<dyn FnOnce(&Service, &mut Effects<'_>) + Send>;

/// The routes of a server that is alone: a cluster of one, and another at each start.
fn own_routes() -> Routes {
    let random = || RandomState::new().hash_one(0) | 1;
    Routes {
        cluster: random(),
        version: 1,
        servers: vec![RouteServer {
            node: random(),
            incarnation: 1,
            address: String::new(),
        }],
        primaries: vec![0],
    }
}

impl Service {
    pub fn new(config: &Config, cluster: Option<Cluster>) -> Service {
        Service {
            limits: config.limits.clone(),
            lease: config.lease,
            spin: config.spin,
            at_least_once: config.at_least_once,
            types: Types::new(config),
            sessions: Sessions::new(cluster.is_some()),
            cluster,
            own_routes: own_routes(),
            loops: OnceLock::new(),
            table: Table::new(),
            keeper: Keeper::new(),
            clock: Clock::new(),
            stopping: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            long_methods: AtomicUsize::new(0),
            failure: Default::default(),
        }
    }

    /// The server can not go on.
    #[cfg(feature = "cluster")]
    pub fn fail(&self, reason: String) {
        let (failure, changed) = &self.failure;
        failure.lock().get_or_insert(reason);
        changed.notify_all();
    }

    /// Waits until the server can not go on, for so long at most; gives the reason.
    pub fn wait_failed(&self, patience: Duration) -> Option<String> {
        let (failure, changed) = &self.failure;
        let mut failure = failure.lock();
        if failure.is_none() {
            changed.wait_for(&mut failure, patience);
        }
        failure.clone()
    }

    /// The clock of this server: from its start, and never back.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.keeper.wake();
        if let Some(cluster) = &self.cluster {
            cluster.stop();
        }
    }

    pub fn set_loops(&self, loops: &Arc<Loops>) {
        // A service has one set of loops.
        let _ = self.loops.set(Arc::downgrade(loops));
    }

    /// Gives a connection that was made to a loop.
    pub fn assign(&self, connection: Arc<Connection>) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        if let Some(loops) = self.loops.get().and_then(Weak::upgrade) {
            loops.assign(connection);
        }
    }

    /// Gives what is to be done to the loops: who calls this executes nothing, as that may take long.
    pub fn post(&self, effects: &mut Effects<'_>) {
        effects.flush();
        if !effects.jobs.is_empty()
            && let Some(loops) = self.loops.get().and_then(Weak::upgrade)
        {
            loops.post(effects.jobs.drain(..));
        }
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub fn long_methods(&self) -> usize {
        self.long_methods.load(Ordering::Relaxed)
    }

    /// Takes one of the places for long methods; false if there is none.
    pub fn begin_long_method(&self) -> bool {
        self.long_methods
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < self.limits.long_methods_max).then_some(count + 1)
            })
            .is_ok()
    }

    pub fn end_long_method(&self) {
        self.long_methods.fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection was accepted. If there are too many it gets a refusal.
    pub fn connected(&self, connection: &Arc<Connection>) {
        let count = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        if count > self.limits.connections_max {
            connection.refuse(&Error::LimitExceeded {
                limit: "connections_max".to_owned(),
                max: self.limits.connections_max as u64,
                detail: "close some, or start the server with a larger limit".to_owned(),
            });
        }
        self.keeper.expect_hello(connection);
    }

    pub fn disconnected(&self, connection: &Arc<Connection>) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some(session) = connection.session.get() {
            session.detach(connection);
        }
        if let (Some(cluster), Some(other)) = (&self.cluster, connection.other.get()) {
            cluster.disconnected(connection, other);
        }
    }

    /// The handshake. An error closes the connection.
    pub fn hello(
        &self,
        connection: &Arc<Connection>,
        version: u16,
        hello: Option<Hello>,
    ) -> Result<()> {
        let Some(hello) = hello else {
            return Err(Error::Protocol {
                detail: format!(
                    "the client speaks version {version}, this server version {VERSION}: build both from the same release"
                ),
            });
        };
        let routes = match &self.cluster {
            None => self.own_routes.clone(),
            Some(cluster) => cluster.routes().ok_or_else(|| Error::Unavailable {
                address: "the server".to_owned(),
                reason: "it is not part of the cluster yet, or not any more".to_owned(),
            })?,
        };
        let (session, resumed) = self.sessions.hello(&hello, self.now_ms())?;
        if connection.session.set(session.clone()).is_err() {
            return Err(Error::Protocol {
                detail: "a second hello on one connection".to_owned(),
            });
        }
        let welcome = Welcome {
            resumed,
            lease_ms: self.lease.as_millis() as u64,
            frame_bytes_max: self.limits.frame_bytes_max as u64,
            features: 0,
            node: match &self.cluster {
                None => self.own_routes.servers[0].node,
                Some(cluster) => cluster.me.0,
            },
            routes,
        };
        connection.tells_routes(welcome.routes.version);
        connection.routes.store(hello.routes, Ordering::Relaxed);
        connection.append(|out| frame::write_welcome(&welcome, out));
        session.attach(connection.clone());
        if let Some(cluster) = &self.cluster {
            // What came between the welcome and here.
            cluster.tell(connection);
        }
        Ok(())
    }

    /// Takes in a request, in the order of arrival. What takes no time is done; what may is given back
    /// as a job.
    pub fn accept(
        &self,
        arrival: Arrival,
        operation: Operation,
        effects: &mut Effects<'_>,
    ) -> Option<Job> {
        if !arrival.session.acknowledge(arrival.sequence, arrival.acked) {
            return None;
        }
        if self.cluster.is_some() {
            return self.accept_shared(arrival, operation, effects);
        }
        match operation {
            Operation::Call(request) => {
                let object = request.object;
                self.to_object(
                    object,
                    arrival,
                    |arrival| Event::Call(arrival, request),
                    effects,
                )
            }
            Operation::ClearPoison(object) => {
                self.to_object(object, arrival, Event::ClearPoison, effects)
            }
            Operation::Ping => {
                effects.answer(&arrival, Ok(&[]));
                None
            }
            operation => Some(Job::Lifecycle(arrival, operation)),
        }
    }

    /// As [`accept`](Service::accept), in a cluster: what makes and removes an object is in line with its calls.
    fn accept_shared(
        &self,
        arrival: Arrival,
        operation: Operation,
        effects: &mut Effects<'_>,
    ) -> Option<Job> {
        let (object, event) = match operation {
            Operation::Call(request) => (request.object, Event::Call(arrival, request)),
            Operation::ClearPoison(object) => (object, Event::ClearPoison(arrival)),
            Operation::Delete(object) => (object, Event::Delete(arrival)),
            Operation::Open(request) => {
                let session = &arrival.session;
                let object = request.object(&session.run, &session.namespace);
                (object, Event::Open(arrival, Box::new(request)))
            }
            Operation::Ping => {
                effects.answer(&arrival, Ok(&[]));
                return None;
            }
            operation => return Some(Job::Lifecycle(arrival, operation)),
        };
        let max = self.limits.queued_calls_max;
        let refused = self.offer_up_to(max, object, event, effects);
        if let Some(arrival) = refused.as_ref().and_then(Event::arrival) {
            effects.answer(arrival, Err(&self.too_many_queued()));
        }
        effects.jobs.pop_back()
    }

    fn too_many_queued(&self) -> Error {
        Error::LimitExceeded {
            limit: "queued_calls_max".to_owned(),
            max: self.limits.queued_calls_max as u64,
            detail: "so many calls queue for this object, where a method takes long".to_owned(),
        }
    }

    fn to_object(
        &self,
        object: ObjectId,
        arrival: Arrival,
        event: impl FnOnce(Arrival) -> Event,
        effects: &mut Effects<'_>,
    ) -> Option<Job> {
        let Some(slot) = self.table.find(&object) else {
            effects.answer(&arrival, Err(&lost(object)));
            return None;
        };
        match slot.submit(event(arrival), self.limits.queued_calls_max) {
            Ok(turn) => turn.map(|(held, event)| Job::Object(slot, held, event)),
            Err(refused) => {
                let error = self.too_many_queued();
                if let Event::Call(arrival, _) | Event::ClearPoison(arrival) = &*refused {
                    effects.answer(arrival, Err(&error));
                }
                None
            }
        }
    }

    /// Takes in that a waiting call is withdrawn.
    pub fn withdraw(
        &self,
        arrival: Arrival,
        object: ObjectId,
        effects: &mut Effects<'_>,
    ) -> Option<Job> {
        if self.cluster.is_some() {
            self.offer(object, Event::Withdraw(arrival), effects);
            return effects.jobs.pop_back();
        }
        let slot = self.table.find(&object)?;
        let (held, event) = slot.submit_always(Event::Withdraw(arrival))?;
        Some(Job::Object(slot, held, event))
    }

    /// Ends a call that has waited for as long as it may.
    pub fn time_out(
        &self,
        call: CallId,
        slot: &Arc<Slot>,
        after: Duration,
        effects: &mut Effects<'_>,
    ) {
        if self.cluster.is_some() {
            return self.offer(slot.id, Event::TimeOut(call, after), effects);
        }
        let next = slot.submit_always(Event::TimeOut(call, after));
        self.hold(slot, next, effects);
    }

    /// Executes a job, and what it entails. It may take as long as a method takes.
    pub fn execute(&self, job: Job, effects: &mut Effects<'_>) {
        self.execute_one(job, effects);
        self.run_jobs(effects);
    }

    /// Executes what others have entailed.
    pub fn run_jobs(&self, effects: &mut Effects<'_>) {
        while let Some(job) = effects.jobs.pop_front() {
            self.execute_one(job, effects);
        }
    }

    fn execute_one(&self, job: Job, effects: &mut Effects<'_>) {
        match job {
            Job::Object(slot, held, event) => self.hold(&slot, Some((held, event)), effects),
            Job::Lifecycle(arrival, operation) => self.lifecycle(&arrival, operation, effects),
            Job::Peer(connection, bytes) => {
                self.messages(&connection, &bytes, effects);
                if !effects.jobs.is_empty() {
                    // What was accepted is acknowledged before it is executed.
                    effects.flush();
                }
            }
            Job::Then(then) => then(self, effects),
        }
    }

    /// Handles events of an object until there are none.
    fn hold(&self, slot: &Arc<Slot>, mut next: Option<(Held, Event)>, effects: &mut Effects<'_>) {
        if let Some(cluster) = &self.cluster {
            return self.hold_shared(cluster, slot, next, effects);
        }
        let mut out = std::mem::take(&mut effects.out);
        while let Some((mut held, event)) = next {
            self.handle(slot, &mut held, event, &mut out, effects);
            next = slot.next(held);
        }
        effects.out = out;
    }

    fn hold_shared(
        &self,
        cluster: &Cluster,
        slot: &Arc<Slot>,
        mut next: Option<(Held, Event)>,
        effects: &mut Effects<'_>,
    ) {
        let mut handled = 0;
        let mut written = Instant::now();
        while let Some((mut held, event)) = next {
            handled += 1;
            if handled % EVENTS_UNWRITTEN_MAX == 0 || written.elapsed() > WRITE_AFTER {
                effects.flush();
                written = Instant::now();
            }
            self.handle_shared(cluster, slot, &mut held, event, effects);
            let is_absent = held.is_none();
            next = slot.next(held);
            if is_absent && next.is_none() {
                self.table.forget(slot);
            }
        }
    }

    fn handle(
        &self,
        slot: &Arc<Slot>,
        held: &mut Held,
        event: Event,
        out: &mut Vec<u8>,
        effects: &mut Effects<'_>,
    ) {
        let Some(cell) = held.as_mut().and_then(Item::cell) else {
            if let Event::Call(arrival, _) | Event::ClearPoison(arrival) = &event {
                effects.answer(arrival, Err(&lost(slot.id)));
            }
            return;
        };
        let needed = |call: CallId| self.sessions.needs(call);
        let mut direct;
        let replies: &mut dyn Replies = match &event {
            Event::Call(arrival, _) | Event::ClearPoison(arrival) => {
                direct = Direct { arrival, effects };
                &mut direct
            }
            _ => effects,
        };
        let mut turn = Turn {
            needed: &needed,
            replies,
            out,
            parked_max: self.limits.parked_calls_max,
        };
        match &event {
            Event::Call(arrival, request) => self.call(slot, cell, arrival, request, &mut turn),
            Event::ClearPoison(arrival) => {
                cell.clear_poison(arrival.call(), arrival.acked, &mut turn);
            }
            Event::Withdraw(arrival) => {
                // The call may be a newer attempt's by now.
                if arrival.session.accepts(&arrival.connection) {
                    cell.cancel(arrival.call(), &Error::Cancelled, &mut turn);
                }
            }
            Event::TimeOut(call, after) => {
                cell.cancel(*call, &Error::TimedOut { after: *after }, &mut turn);
            }
            Event::Visit(visit) => {
                if let Some(outcome) = (visit.act)(self, cell, &mut turn) {
                    // Whoever asked may have stopped waiting.
                    let _ = visit.outcome.send(outcome);
                }
            }
            Event::EndSession(session, _) => cell.end_session(*session, &mut turn),
            Event::End(error) => {
                cell.end_parked(error, &mut turn);
                *held = None;
            }
            // These are events of a cluster.
            Event::Open(..)
            | Event::Delete(_)
            | Event::Remove(_)
            | Event::Follow(..)
            | Event::Look(_) => {}
        }
    }

    fn call(
        &self,
        slot: &Arc<Slot>,
        cell: &mut Cell,
        arrival: &Arrival,
        request: &CallRequest,
        turn: &mut Turn<'_>,
    ) {
        let Arrival {
            session,
            connection,
            sequence,
            ..
        } = arrival;
        // The object is ours, and so once and for all: whoever has an answer was executed before, and a
        // copy of the call that was on its way all the while must not be; nor a call of a session that
        // has ended.
        if !session.needs(*sequence) || !session.accepts(connection) {
            return;
        }
        if (cell.info().attends || session.recorded) && !session.attend(slot) {
            return;
        }
        let call = Call {
            id: arrival.call(),
            acked: arrival.acked,
            recording: self.recording(session),
            method: request.method,
            args: &request.args,
        };
        if cell.call(&call, turn) == Disposition::Answered {
            return;
        }
        // The object is still ours, so that its completion can not come before.
        if !session.park(*sequence, slot) {
            return cell.end_session(session.id, turn);
        }
        if request.timeout_ms > 0 {
            let after = Duration::from_millis(request.timeout_ms.into());
            self.keeper.time_out(call.id, slot, after);
        }
    }

    pub fn recording(&self, session: &Session) -> Recording {
        match (session.recorded, self.at_least_once) {
            (true, _) => Recording::Everything,
            (false, false) => Recording::Changes,
            (false, true) => Recording::Nothing,
        }
    }

    fn lifecycle(&self, arrival: &Arrival, operation: Operation, effects: &mut Effects<'_>) {
        if !arrival.session.accepts(&arrival.connection) {
            return;
        }
        if operation == Operation::Goodbye {
            effects.answer(arrival, Ok(&[]));
            effects.flush();
            return self.end_session(arrival.session.id, effects);
        }
        if let Operation::Begin(attempt) = operation {
            return self.begin(arrival, attempt, effects);
        }
        if let Operation::Fence(fence) = operation {
            let thread = fence.thread;
            let fenced = self.sessions.fence(&arrival.session, fence);
            let is_over = fence.before == Fence::ALL;
            let expected = is_over.then(|| self.sessions.end_expected(thread.session()));
            if let Some(places) = expected.flatten() {
                self.tell_departed((thread.session(), Ending::Known), places, effects);
                self.sessions.departed(thread.session());
            }
            if let Ok(Some(session)) = fenced {
                self.end_attempt(session, thread, effects);
            }
            let done = fenced.as_ref().map(|_| &[] as &[u8]);
            return effects.answer(arrival, done);
        }
        // These may be repeated: a module is what its bytes are.
        let modules = match &operation {
            Operation::Push {
                replace,
                check,
                module,
            } => {
                let pushed = self.push(module, (*replace, *check), effects);
                Some(pushed.and_then(|pushed| encode(&pushed)))
            }
            Operation::RemoveModule(id) if self.cluster.is_some() => {
                let removed = self.types.remove(id).and_then(|removed| {
                    let dropped = self.drop_module(*id);
                    if dropped.is_err() {
                        self.restore_module(*id)?;
                    }
                    dropped.map(|()| removed)
                });
                Some(removed.and_then(|removed| encode(&removed)))
            }
            Operation::Modules => Some(encode(&self.modules())),
            Operation::Inspect(inspect) => Some(self.inspect(inspect, effects)),
            Operation::ClearNamespace if self.cluster.is_some() => {
                let cleared = self.clear_shared(&arrival.session.namespace, effects);
                Some(encode(&cleared))
            }
            _ => None,
        };
        if let Some(answer) = modules {
            return effects.answer(arrival, answer.as_deref());
        }
        let result = arrival.session.once(arrival.sequence, || match operation {
            Operation::Open(request) => {
                let created = self.open(&arrival.session, request, effects)?;
                Ok(created.into())
            }
            Operation::Delete(object) => Ok(self.delete(object, effects).into()),
            Operation::RemoveModule(id) => Ok(self.types.remove(&id)?.into()),
            Operation::ClearNamespace => {
                let objects = self.sessions.kept(&arrival.session.namespace);
                let deleted = objects.into_iter().filter(|id| self.delete(*id, effects));
                Ok(deleted.count() as u64)
            }
            _ => unreachable!("accept keeps the others"),
        });
        let Some(result) = result else { return };
        match result.as_ref().map(encode) {
            Ok(Ok(bytes)) => effects.answer(arrival, Ok(&bytes)),
            Ok(Err(error)) => effects.answer(arrival, Err(&error)),
            Err(error) => effects.answer(arrival, Err(error)),
        }
    }

    /// The session's cloud thread begins. It is no other's any more that runs elsewhere.
    fn begin(&self, arrival: &Arrival, attempt: Attempt, effects: &mut Effects<'_>) {
        match self.sessions.begin(&arrival.session, attempt) {
            Ok(older) => {
                if let Some(older) = older {
                    self.end_attempt(older, attempt.thread, effects);
                }
                effects.answer(arrival, Ok(&[]));
            }
            Err(fenced) => {
                effects.answer(arrival, Err(&fenced));
                effects.flush();
                self.end_session(arrival.session.id, effects);
            }
        }
    }

    fn open(
        &self,
        session: &Session,
        request: OpenRequest,
        effects: &mut Effects<'_>,
    ) -> Result<bool> {
        let Some(info) = self.types.find(&request.type_name) else {
            return Err(Error::UnknownType {
                type_name: request.type_name,
            });
        };
        let id = request.object(&session.run, &session.namespace);
        if request.mode != OpenMode::Recreate && self.table.find(&id).is_some() {
            return Ok(false);
        }
        if request.mode == OpenMode::Find {
            return Err(Error::NotFound {
                type_name: request.type_name,
                key: request.key,
            });
        }
        self.check_room()?;
        // The user's `Deserialize` may take its time, so no lock of the table is held.
        let cell = Cell::new(info, &request.state)?;
        let slot = Slot::new(id, cell);
        let created = if request.mode == OpenMode::Recreate {
            if let Some(previous) = self.table.replace(slot.clone()) {
                self.end_object(&previous, effects);
            }
            true
        } else {
            self.table.insert(slot.clone())
        };
        if created
            && let Some(newer) = self.types.find(&request.type_name)
            && !std::ptr::eq(newer, info)
        {
            // A new version came behind our back, and may have looked for its objects before this was one.
            self.visit([slot], (move_to(newer), true), effects);
        }
        if created && request.persistent {
            self.sessions.keep(&session.namespace, id, &self.table);
        } else if created && !self.sessions.adopt(session.run, id, &self.table) {
            self.delete(id, effects);
            return Err(Error::SessionExpired);
        }
        Ok(created)
    }

    /// Whether there may be one more object.
    pub fn check_room(&self) -> Result<()> {
        // In a cluster the place of the one that is to be made is in the table already.
        let there = self.table.len() - usize::from(self.cluster.is_some() && self.table.len() > 0);
        if there < self.limits.objects_max {
            return Ok(());
        }
        Err(Error::LimitExceeded {
            limit: "objects_max".to_owned(),
            max: self.limits.objects_max as u64,
            detail: "delete some, or start the server with a larger limit".to_owned(),
        })
    }

    /// In a cluster: removes the persistent objects of a namespace of which this server is the primary; how many.
    fn clear_shared(&self, namespace: &str, effects: &mut Effects<'_>) -> u64 {
        let (removed, all) = mpsc::channel();
        for object in self.sessions.kept(namespace) {
            self.offer(object, Event::Remove(Some(removed.clone())), effects);
        }
        drop(removed);
        self.run_jobs(effects);
        effects.flush();
        self.gather(&all).len() as u64
    }

    /// What objects say, until all have that were asked. Who is in the middle of something is not waited for when the
    /// server stops.
    fn gather<T>(&self, said: &mpsc::Receiver<T>) -> Vec<T> {
        let mut all = Vec::new();
        loop {
            match said.recv_timeout(GATHER_LOOK) {
                Ok(one) => all.push(one),
                Err(RecvTimeoutError::Timeout) if !self.is_stopping() => {}
                Err(_) => return all,
            }
        }
    }

    fn delete(&self, object: ObjectId, effects: &mut Effects<'_>) -> bool {
        let Some(slot) = self.table.remove(&object) else {
            return false;
        };
        self.sessions.release(object, &self.table);
        self.end_object(&slot, effects);
        true
    }

    /// Ends an object that the table has no more.
    fn end_object(&self, slot: &Arc<Slot>, effects: &mut Effects<'_>) {
        let next = slot.submit_always(Event::End(lost(slot.id)));
        self.hold(slot, next, effects);
    }

    /// Takes a module in. With `replace` its types may be new versions of those of other modules, whose objects
    /// then move, one after the other, each between two of its calls. First all are asked whether they can;
    /// if one can not nothing happens. One that changes meanwhile so that it can not keeps its old code.
    pub fn push(
        &self,
        module: &[u8],
        (replace, check): (bool, bool),
        effects: &mut Effects<'_>,
    ) -> Result<Pushed> {
        if let Some(cluster) = &self.cluster {
            return self.push_to_all(cluster, module, (replace, check), effects);
        }
        let _alone = self.types.pushing();
        let newcomer = self.types.compile(module, replace)?;
        let checked = self.check_newcomer(&newcomer, effects);
        if check || checked.is_err() {
            self.types.let_go(&newcomer.describe().id);
            return checked.map(|()| Pushed::of(newcomer.describe()));
        }
        Ok(self.take_in(&newcomer, effects))
    }

    /// Whether all objects could move to a module's types; of an error the reason.
    pub fn check_newcomer(&self, newcomer: &Newcomer, effects: &mut Effects<'_>) -> Result<()> {
        for Version { old, new } in newcomer.versions() {
            let (old, new) = (*old, *new);
            let act: Act = Arc::new(move |_, cell, _| {
                std::ptr::eq(cell.info(), old).then(|| cell.can_move_to(new))
            });
            self.visit(self.table.of_type(old.name), (act, false), effects)
                .into_iter()
                .collect::<Result<()>>()
                .map_err(|error| Error::Refused {
                    reason: format!(
                        "an object of {} can not move to the new version: {error}",
                        old.name
                    ),
                })?;
        }
        Ok(())
    }

    /// New objects are of a module's types from here on, and those of earlier versions move to it.
    pub fn take_in(&self, newcomer: &Newcomer, effects: &mut Effects<'_>) -> Pushed {
        self.types.take_in(newcomer);
        let mut replaced = newcomer.replaced();
        // One that has other types stays.
        replaced.retain(|id| !self.types.has_types_of(id));
        let (mut moved, mut left, mut reason) = (0, 0, None);
        for Version { new, .. } in newcomer.versions() {
            let objects = self.table.of_type(new.name);
            for outcome in self.visit(objects, (move_to(new), true), effects) {
                match outcome {
                    Ok(()) => moved += 1,
                    Err(error) => {
                        left += 1;
                        reason = Some(error.to_string());
                    }
                }
            }
        }
        Pushed {
            module: self.types.settle(newcomer),
            moved,
            left,
            reason,
            replaced,
        }
    }

    /// The encoded state of an object.
    pub fn state(&self, id: ObjectId) -> Option<Result<Vec<u8>>> {
        let slot = self.table.find(&id)?;
        let state = Arc::new(Mutex::new(Vec::new()));
        let theirs = state.clone();
        let act: Act = Arc::new(move |_, cell, _| Some(cell.save(&mut theirs.lock())));
        let mut effects = Effects::new(self);
        let saved = self.visit([slot], (act, false), &mut effects).pop()?;
        Some(saved.map(|()| std::mem::take(&mut *state.lock())))
    }

    /// The modules that something is of, or would be, and in a cluster the others that it keeps: with no types.
    fn modules(&self) -> Vec<ModuleInfo> {
        let mut modules = self.types.modules();
        let kept = self.cluster.iter().flat_map(Cluster::kept_modules);
        for (id, bytes) in kept {
            if modules.iter().all(|module| module.id != id) {
                modules.push(ModuleInfo::unused(id, bytes));
            }
        }
        modules
    }

    /// Whether code is newer than that which an object has.
    fn supersedes(&self, new: &TypeInfo, old: &TypeInfo) -> bool {
        let is_other = new.name == old.name && !std::ptr::eq(new, old);
        is_other
            && self
                .cluster
                .as_ref()
                .is_none_or(|cluster| cluster.supersedes(new, old))
    }

    /// Does something with objects, with each between two of its calls; waits until it is done. It may
    /// change them.
    fn visit(
        &self,
        slots: impl IntoIterator<Item = Arc<Slot>>,
        (act, changes): (Act, bool),
        effects: &mut Effects<'_>,
    ) -> Vec<Result<()>> {
        let (outcome, outcomes) = mpsc::channel();
        for slot in slots {
            let (act, outcome) = (act.clone(), outcome.clone());
            let visit = Visit {
                act,
                changes,
                outcome,
            };
            let next = slot.submit_always(Event::Visit(visit));
            self.hold(&slot, next, effects);
            self.run_jobs(effects);
            // What it completed.
            effects.flush();
        }
        drop(outcome);
        self.gather(&outcomes)
    }

    /// Ends a session: it said goodbye, or its lease lapsed.
    pub fn end_session(&self, id: SessionId, effects: &mut Effects<'_>) {
        self.end(id, None, Ending::Known, effects);
    }

    /// Ends a session that was silent for longer than its lease.
    pub fn lapse_session(&self, id: SessionId, effects: &mut Effects<'_>) {
        self.end(id, None, Ending::Silent, effects);
    }

    /// Ends the session that runs an attempt of a cloud thread that may not go on. A worker that has begun its
    /// next thread meanwhile keeps its session.
    fn end_attempt(&self, session: SessionId, thread: ThreadId, effects: &mut Effects<'_>) {
        self.end(session, Some(thread), Ending::Known, effects);
    }

    fn end(
        &self,
        id: SessionId,
        running: Option<ThreadId>,
        ending: Ending,
        effects: &mut Effects<'_>,
    ) {
        let Some(ended) = self.sessions.end(id, running) else {
            return;
        };
        for object in ended.objects {
            match self.cluster {
                Some(_) => self.offer(object, Event::Remove(None), effects),
                None => drop(self.delete(object, effects)),
            }
        }
        if ending == Ending::Silent {
            self.sessions.note_silent(id, self.now_ms());
        }
        self.tell_departed((id, ending), ended.places, effects);
        self.sessions.departed(id);
        for session in ended.sessions {
            self.end_session(session, effects);
        }
    }
}

impl Service {
    /// Tells objects that a session has ended.
    pub fn tell_departed(
        &self,
        (session, ending): (SessionId, Ending),
        places: Vec<Arc<Slot>>,
        effects: &mut Effects<'_>,
    ) {
        if ending == Ending::Known {
            self.end_requester(session, effects);
        }
        for slot in places {
            if self.cluster.is_some() {
                self.offer(slot.id, Event::EndSession(session, ending), effects);
                continue;
            }
            let next = slot.submit_always(Event::EndSession(session, ending));
            self.hold(&slot, next, effects);
        }
    }
}

pub(crate) fn lost(object: ObjectId) -> Error {
    Error::Lost {
        object: object.to_string(),
    }
}

/// Moves objects to newer code of their type.
pub(crate) fn move_to(new: &'static TypeInfo) -> Act {
    Arc::new(move |service, cell, turn| {
        let moves = service.supersedes(new, cell.info());
        moves.then(|| cell.move_to(new, turn))
    })
}

/// How often who waits for objects looks whether the server stops.
const GATHER_LOOK: Duration = Duration::from_millis(100);

/// What was appended is written after this, whatever else is to be done.
const WRITE_AFTER: Duration = Duration::from_micros(200);

/// So many marks are looked at before another is made.
const MARKED_LATELY: usize = 16;

/// Events of an object that are handled before what they gave is written.
const EVENTS_UNWRITTEN_MAX: usize = 64;

/// Collects replies: appends each to its connection, and remembers which connections to flush.
pub(crate) struct Effects<'a> {
    service: &'a Service,
    pub dirty: Vec<Arc<Connection>>,
    /// Where methods leave their results.
    out: Vec<u8>,
    /// What is to be done next.
    pub jobs: VecDeque<Job>,
    /// In a cluster: results that may have to wait.
    pub results: Results,
    /// In a cluster: where methods leave their results.
    pub scratch: Vec<u8>,
}

impl<'a> Effects<'a> {
    pub fn new(service: &'a Service) -> Self {
        Effects {
            service,
            dirty: Vec::new(),
            out: Vec::new(),
            jobs: VecDeque::new(),
            results: Results::default(),
            scratch: Vec::new(),
        }
    }

    /// Something was appended to a connection.
    pub fn mark(&mut self, connection: &Arc<Connection>) {
        if connection.mark_dirty() {
            self.dirty.push(connection.clone());
        }
    }

    /// The same, of a connection that many threads append to all the time: nobody is to rely on another who may be busy.
    pub fn mark_shared(&mut self, connection: &Arc<Connection>) {
        connection.mark_dirty();
        let mut last = self.dirty.iter().rev().take(MARKED_LATELY);
        if !last.any(|marked| Arc::ptr_eq(marked, connection)) {
            self.dirty.push(connection.clone());
        }
    }

    /// The request was not executed here.
    pub fn moved(&mut self, arrival: &Arrival, cluster: &Cluster) {
        cluster.tell(&arrival.connection);
        arrival
            .connection
            .moved(arrival.sequence, cluster.version().0);
        self.mark(&arrival.connection);
    }

    /// Replies on the connection that asked.
    pub fn answer(&mut self, arrival: &Arrival, result: Result<&[u8], &Error>) {
        self.append(&arrival.connection, arrival.sequence, result);
    }

    fn append(
        &mut self,
        connection: &Arc<Connection>,
        sequence: Sequence,
        result: Result<&[u8], &Error>,
    ) {
        connection.reply(sequence, result, self.service.limits.frame_bytes_max);
        self.mark(connection);
    }

    /// Writes out what was appended.
    pub fn flush(&mut self) {
        for connection in self.dirty.drain(..) {
            connection.flush();
        }
    }
}

/// Replies to calls that were parked: on whichever connection their session has now.
impl Replies for Effects<'_> {
    fn reply(&mut self, call: CallId, result: Result<&[u8], &Error>) {
        let Some(session) = self.service.sessions.find(call.session) else {
            return;
        };
        session.unpark(call.sequence);
        // With none, the client will ask again when it is back.
        if let Some(connection) = session.connection() {
            self.append(&connection, call.sequence, result);
        }
    }
}

/// The replies of a call: its own goes to the connection that asked.
struct Direct<'e, 'a> {
    arrival: &'e Arrival,
    effects: &'e mut Effects<'a>,
}

impl Replies for Direct<'_, '_> {
    fn reply(&mut self, call: CallId, result: Result<&[u8], &Error>) {
        if call == self.arrival.call() {
            self.effects.answer(self.arrival, result);
        } else {
            self.effects.reply(call, result);
        }
    }
}
