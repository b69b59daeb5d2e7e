//! The whole session: what becomes of requests and responses.

use std::collections::BTreeSet;
use std::sync::Arc;

use crucial_object::{Error, ObjectId, Result, Sequence, ThreadId};
use crucial_proto::frame::{self, Attempt, Fence, InFlight, Routes};

use super::calls::{Calls, Entry, Sending};
use super::holds::Holds;
use super::introduction::{Fences, Identity, Introduction};
use super::links::LinkState;
use super::member::Member;
use super::pending::{Failed, PendingCall, Target};
use super::routes::Table;
use super::schedule::Schedule;

/// One session, with the servers of a cluster, which can be a single one.
pub struct Session<W> {
    pub(super) identity: Identity,
    pub(super) calls: Calls<W>,
    pub(super) holds: Holds,
    pub(super) table: Arc<Table>,
    /// In the order of the table's places.
    pub(super) links: Vec<LinkState>,
    /// The partitions that the client has used. It has, or will have, something at their primaries.
    pub(super) touched: Vec<bool>,
    /// The cloud thread that this process runs.
    pub(super) attempt: Option<Attempt>,
    pub(super) fences: Fences,
    /// Counts connections, from 1.
    pub(super) connections: u64,
    /// Told by the servers.
    pub(super) frame_bytes_max: usize,
    /// A request is not sent again later than this behind the time at which its server is known to have had the session
    /// last. By the shortest lease that servers have told.
    pub(super) repeat_ms: u64,
    /// Why no call can succeed any more.
    pub(super) ended: Option<Error>,
    pub(super) schedule: Schedule,
}

/// A request that has no number yet.
pub struct Request<W> {
    pub target: Target,
    pub frame: Vec<u8>,
    /// A request to one server is numbered out of band unless this is set: as the calls of objects are.
    pub is_in_band: bool,
    pub waiter: W,
}

/// A request was numbered.
pub struct Submitted<W> {
    pub call: Arc<PendingCall<W>>,
    /// The request's frame is to be written on its link now.
    pub write: bool,
    /// The request's server is to be connected.
    pub connect: bool,
    /// To be told to all servers.
    pub report: Option<InFlight>,
}

/// How a call is withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawal {
    /// The answer has come already, or the withdrawal follows when the call is sent.
    Done,
    /// The withdrawal is to be written on the link.
    Write,
    /// The call is at another server by now.
    Elsewhere(Option<Member>),
}

impl<W> Session<W> {
    /// A session that begins with the routes of its first welcome. `reached` is where that server was reached.
    ///
    /// # Errors
    ///
    /// [`Error::Protocol`] if the routes are no good.
    pub fn new(
        identity: Identity,
        attempt: Option<Attempt>,
        random: u64,
        routes: Routes,
        reached: &str,
    ) -> Result<Session<W>> {
        let table = Arc::new(Table::new(routes, reached)?);
        let links = table.members().iter().copied().map(LinkState::new);
        Ok(Session {
            calls: Calls::new(identity.is_exactly_once, random),
            identity,
            holds: Holds::default(),
            links: links.collect(),
            touched: vec![false; table.routes().primaries.len()],
            attempt,
            fences: Fences::default(),
            connections: 0,
            frame_bytes_max: frame::FRAME_BYTES_MAX,
            repeat_ms: u64::MAX,
            ended: None,
            schedule: Schedule::default(),
            table,
        })
    }

    pub fn version(&self) -> u64 {
        self.table.version()
    }

    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// No call succeeds from here on; those in flight may still.
    pub fn end(&mut self, reason: Error) {
        self.ended.get_or_insert(reason);
    }

    /// Fails all calls in flight.
    pub fn fail_all(&mut self, error: Error) -> Failed<W> {
        self.holds.clear();
        Failed {
            calls: self.calls.take(|_| true),
            error,
        }
    }

    /// Numbers a request. `place` is where it goes, by the table of the present version.
    ///
    /// # Errors
    ///
    /// If the session has ended, a limit is reached, or the server is not a member any more.
    pub fn submit(&mut self, place: Option<usize>, request: Request<W>) -> Result<Submitted<W>> {
        let Request {
            target,
            mut frame,
            is_in_band,
            waiter,
        } = request;
        if let Some(ended) = &self.ended {
            return Err(ended.clone());
        }
        let is_out_of_band = match target {
            Target::Object(object) => {
                self.touch(&object);
                false
            }
            Target::Member(_) if place.is_none() => return Err(no_member()),
            Target::Member(_) => !is_in_band,
        };
        if let Err(error) = self.check_size(&frame).and(self.calls.check_room()) {
            if !is_out_of_band {
                self.calls.skip();
            }
            return Err(error);
        }
        let is_held = !self.holds.is_empty()
            && matches!(&target, Target::Object(object) if self.holds.holds(object));
        let link = place.map(|place| &self.links[place]);
        let (connection, connected_ms) =
            link.map_or((0, 0), |link| (link.connection, link.connected_ms));
        let sent = if is_held { 0 } else { connection };
        let sequence = self.calls.number(&mut frame, is_out_of_band);
        let member = link.map(|link| link.member);
        let connect = member.is_some() && connection == 0;
        let call = Arc::new(PendingCall {
            sequence,
            target,
            frame,
            waiter,
        });
        self.calls.insert(Entry {
            call: call.clone(),
            member,
            sent,
            tried: sent != 0,
            vouched_ms: connected_ms,
            since_ms: None,
            withdrawn: false,
        });
        Ok(Submitted {
            call,
            write: sent != 0,
            connect,
            report: self.calls.take_report(),
        })
    }

    fn check_size(&self, frame: &[u8]) -> Result<()> {
        let size = frame.len() - frame::LENGTH_BYTES;
        if size <= self.frame_bytes_max {
            return Ok(());
        }
        Err(Error::LimitExceeded {
            limit: "frame_bytes_max".to_owned(),
            max: self.frame_bytes_max as u64,
            detail: format!("a request of {size} bytes: send it in parts"),
        })
    }

    fn touch(&mut self, object: &ObjectId) {
        let partition = self.table.routes().partition(object);
        if let Some(touched) = self.touched.get_mut(partition) {
            *touched = true;
        }
    }

    /// A call is not made in this session, though it counts among those of an exactly-once thread.
    pub fn skip_call(&mut self) {
        self.calls.skip();
    }

    /// A reply came on `connection`. It does not count if the request was sent on another one since, or is to be sent
    /// again: a copy of the request may have another effect there than the reply tells of. (Where the first one had an
    /// effect, the copy gets the same reply.)
    pub fn on_reply(&mut self, sequence: Sequence, connection: u64) -> Option<Arc<PendingCall<W>>> {
        let is_it = |entry: &Entry<W>| entry.sent == connection;
        let call = self.calls.remove_if(sequence, is_it)?.call;
        if !self.holds.is_empty()
            && let Some(object) = call.object()
        {
            self.holds.on_answered(&object);
        }
        Some(call)
    }

    /// A request that was sent on `connection` was not executed, as the server has routes of version `needs`.
    pub fn on_moved(&mut self, sequence: Sequence, connection: u64, needs: u64, now_ms: u64) {
        let version = self.table.version();
        let Some(entry) = self.calls.get(sequence) else {
            return;
        };
        // On another connection it has been sent elsewhere since.
        if let Some(object) = entry.call.object()
            && entry.sent == connection
        {
            // Where this was sent it was not executed. Earlier copies may have been.
            entry.sent = 0;
            self.holds.hold(object, needs, version, now_ms);
        }
    }

    /// Withdraws a call. `at` is the server whose link is ready to be written.
    pub fn withdraw(&mut self, sequence: Sequence, at: Option<Member>) -> Withdrawal {
        let Some(entry) = self.calls.get(sequence) else {
            return Withdrawal::Done;
        };
        // Wherever the call is sent from now on, it is withdrawn as well.
        entry.withdrawn = true;
        if entry.sent == 0 {
            return Withdrawal::Done;
        }
        match entry.member == at {
            true => Withdrawal::Write,
            false => Withdrawal::Elsewhere(entry.member),
        }
    }

    /// This process runs a cloud thread from here on. The hello tells servers that are connected later.
    pub fn set_attempt(&mut self, attempt: Attempt) {
        self.attempt = Some(attempt);
    }

    /// Attempts of a thread that this client has started are over. Servers that are connected later are told so.
    pub fn record_fence(&mut self, thread: ThreadId, before: u32) -> Fence {
        self.fences.record(thread, before)
    }

    /// A server for a request that any can answer.
    pub fn any_member(&self) -> Option<Member> {
        let up = self.links.iter().find(|link| link.is_up());
        Some(up.or(self.links.first())?.member)
    }

    pub fn is_up(&self, member: Member) -> bool {
        self.link(member).is_some_and(LinkState::is_up)
    }

    /// The introduction to a server. Later routes, and a later attempt, are told when it is connected.
    pub fn introduction(&self) -> Introduction {
        let fences = self.fences.all();
        let mut hello = self.identity.hello(self.attempt);
        hello.routes = self.table.version();
        if self.identity.owner {
            hello.fences = fences.len() as u32;
        }
        Introduction { hello, fences }
    }

    /// Calls are not in flight any more: their objects need not be held.
    pub(super) fn forget_holds(&mut self) {
        if self.holds.is_empty() {
            return;
        }
        let objects = self.calls.entries().filter_map(|entry| entry.call.object());
        let objects: BTreeSet<ObjectId> = objects.collect();
        self.holds.keep(|object| objects.contains(object));
    }

    /// How requests are sent to a server now; `None` if it is not connected.
    pub(super) fn sending(&self, member: Member, now_ms: u64) -> Option<Sending> {
        let link = self.link(member).filter(|link| link.is_up())?;
        Some(Sending {
            connection: link.connection,
            acked: self.calls.acked(),
            connected_ms: link.connected_ms,
            oldest_ms: self.oldest_ms(now_ms),
        })
    }

    /// Requests that were sent, and vouched for before this, are not sent again. (The results of an exactly-once thread
    /// stay with its run.)
    pub(super) fn oldest_ms(&self, now_ms: u64) -> u64 {
        match self.identity.is_exactly_once {
            true => 0,
            false => now_ms.saturating_sub(self.repeat_ms),
        }
    }

    /// Notes what the connections know of the requests that are in flight on them.
    pub(super) fn note_vouched(&mut self) {
        let links = &self.links;
        for entry in self.calls.entries_mut().filter(|entry| entry.sent != 0) {
            let link = links.iter().find(|link| link.connection == entry.sent);
            let vouched_ms = link.map_or(0, |link| link.vouched_ms);
            entry.vouched_ms = entry.vouched_ms.max(vouched_ms);
        }
    }

    /// A reply came on `connection` to a request whose answer nobody waits for, and says that the server serves.
    pub fn on_sign_answered(&mut self, sequence: Sequence, connection: u64) {
        let link = self.links.iter_mut();
        if let Some(link) = link.into_iter().find(|link| link.connection == connection) {
            link.on_answered(sequence);
        }
    }

    pub(super) fn link(&self, member: Member) -> Option<&LinkState> {
        self.links.iter().find(|link| link.member == member)
    }

    pub(super) fn link_mut(&mut self, member: Member) -> Option<&mut LinkState> {
        self.links.iter_mut().find(|link| link.member == member)
    }
}

/// The error of a request to a server that has left the cluster.
pub(super) fn no_member() -> Error {
    Error::Unavailable {
        address: "the cluster".to_owned(),
        reason: "the server is no longer a member".to_owned(),
    }
}
