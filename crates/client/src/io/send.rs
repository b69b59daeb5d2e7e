//! Has requests numbered, and writes them.

use std::sync::Arc;

use crucial_object::caller::Call;
use crucial_object::{Error, ObjectId, Result, Sequence};
use crucial_proto::frame::{self, CallFrame, InFlight, Operation};

use super::handshake::unavailable;
use super::link::Link;
use super::net::{Net, Pending};
use super::waiter::Waiter;
use crate::session::{Member, Request, Target, Withdrawal};

/// A request that was sent, or is to be sent when that is possible.
pub(crate) struct Sent {
    pub call: Pending,
    /// Where the answer is to come from, so far.
    pub link: Option<Arc<Link>>,
}

impl Net {
    /// Sends a request about an object and waits for the answer.
    pub fn request(&self, operation: &Operation, object: ObjectId) -> Result<Vec<u8>> {
        let sent = self.send(encode(operation)?, Target::Object(object))?;
        self.wait(sent)
    }

    /// The same, without waiting for the answer.
    pub fn request_soon(&self, operation: &Operation, object: ObjectId) -> Result<()> {
        self.send(encode(operation)?, Target::Object(object))
            .map(drop)
    }

    /// Sends a call.
    pub fn begin(&self, call: &Call<'_>) -> Result<Sent> {
        let mut bytes = Vec::new();
        let timeout_ms = call.timeout.map_or(0, |timeout| {
            u32::try_from(timeout.as_millis())
                .unwrap_or(u32::MAX)
                .max(1)
        });
        frame::write_call(
            &CallFrame {
                sequence: Sequence(0),
                acked: Sequence(0),
                object: call.object,
                method: call.method,
                timeout_ms,
                args: call.args,
            },
            &mut bytes,
        )?;
        self.send(bytes, Target::Object(call.object))
    }

    /// Sends a request. It is sent again if need be, also if nobody waits for its answer. If the server takes no more
    /// for now, this waits.
    pub fn send(&self, frame: Vec<u8>, target: Target) -> Result<Sent> {
        let sent = self.send_ahead(frame, target, false)?;
        if let Some(link) = &sent.link {
            let waiter = &sent.call.waiter;
            self.wait_for_room(link, || waiter.is_not_at(link.member));
        }
        Ok(sent)
    }

    /// The same, without waiting for the server to take it. `is_in_band`: a request to one server is numbered as calls
    /// of objects are.
    pub fn send_ahead(&self, frame: Vec<u8>, target: Target, is_in_band: bool) -> Result<Sent> {
        loop {
            let way = self.way(&target);
            let link = way.link;
            // Held until the frame is written, so that frames are written in the order of their numbers.
            let mut out = link.as_ref().map(|link| link.out());
            let mut session = self.session();
            if session.version() != way.version {
                // There are newer routes.
                continue;
            }
            let submitted = session.submit(
                way.place,
                Request {
                    target,
                    frame,
                    is_in_band,
                    waiter: Waiter::new(link.as_ref().map(|link| link.member)),
                },
            )?;
            drop(session);
            let call = submitted.call;
            if let (true, Some(link), Some(out)) = (submitted.write, &link, &mut out) {
                link.write(out, &call.frame);
            }
            drop(out);
            if let (true, Some(link)) = (submitted.connect, &link) {
                self.connect(link);
            }
            if let Some(report) = submitted.report {
                self.report(&report);
            }
            return Ok(Sent { call, link });
        }
    }

    /// Tells all servers what is in flight.
    fn report(&self, report: &InFlight) {
        let mut bytes = Vec::new();
        if frame::write_in_flight(report, &mut bytes).is_ok() {
            for link in &self.directory().links {
                link.write(&mut link.out(), &bytes);
            }
        }
    }

    /// Waits while a server takes no more, perhaps because it waits for this client to read; or until `done`.
    pub fn wait_for_room(&self, link: &Arc<Link>, done: impl Fn() -> bool) {
        while link.has_backlog() && !done() {
            match link.reader.try_lock() {
                Some(mut reader) => {
                    self.read_once(link, &mut reader);
                    self.pass_on(link, reader);
                }
                None => link.wait_writable(),
            }
        }
    }

    /// Withdraws a call.
    pub fn withdraw(&self, call: &Pending) {
        let mut bytes = Vec::new();
        let Some(object) = call.object() else {
            return;
        };
        if frame::write_cancel(call.sequence, object, &mut bytes).is_err() {
            return;
        }
        let mut at: Option<Member> = call.waiter.member();
        loop {
            let link = at.and_then(|member| self.link(member));
            let mut out = link.as_ref().map(|link| link.out());
            let withdrawal = self.session().withdraw(call.sequence, at);
            match (withdrawal, &link, &mut out) {
                (Withdrawal::Write, Some(link), Some(out)) => return link.write(out, &bytes),
                (Withdrawal::Elsewhere(member), ..) => at = member,
                _ => return,
            }
        }
    }

    /// A server for a request that any can answer.
    pub fn any_member(&self) -> Result<Member> {
        self.session().any_member().ok_or_else(no_servers)
    }
}

/// The frame of a request that is no call, without numbers.
pub(crate) fn encode(operation: &Operation) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    frame::write_operation(Sequence(0), Sequence(0), operation, &mut bytes)?;
    Ok(bytes)
}

pub(crate) fn no_servers() -> Error {
    unavailable("the cluster", "it has no servers".to_owned())
}
