//! Numbers requests and writes them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crucial_core::frame::{self, CallFrame, InFlight, Operation};
use crucial_object::caller::Call;
use crucial_object::{Error, ObjectId, Result, Sequence};

use crate::handshake::unavailable;
use crate::link::{Link, State};
use crate::pending::{Slot, To};
use crate::{Client, Net};

impl Client {
    /// Asks about an object, or any server about something else, and waits for the answer.
    pub(crate) fn request(&self, operation: &Operation, of: Option<ObjectId>) -> Result<Vec<u8>> {
        let slot = self.send_operation(operation, of)?;
        self.wait(&slot)
    }

    /// Sends a request. It is sent again if need be, as any other, also if nobody waits for its answer.
    pub(crate) fn send_operation(
        &self,
        operation: &Operation,
        of: Option<ObjectId>,
    ) -> Result<Arc<Slot>> {
        let to = match (of, &self.net) {
            (Some(object), _) => To::Object(object),
            (None, Net::Alone(link)) => To::Server(link.clone()),
            (None, Net::Cluster(_)) => To::Server(self.some_link()?),
        };
        self.send(encode(operation)?, to)
    }

    pub(crate) fn begin(&self, call: &Call<'_>) -> Result<Arc<Slot>> {
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
        self.send(bytes, To::Object(call.object))
    }

    /// Numbers a frame and sends it. If the server takes no more for now, this waits.
    pub(crate) fn send(&self, bytes: Vec<u8>, to: To) -> Result<Arc<Slot>> {
        let slot = self.send_ahead(bytes, to)?;
        match &self.net {
            Net::Alone(link) => self.press(link, || false),
            Net::Cluster(_) => {
                if let Some(link) = slot.link() {
                    self.press(&link, || slot.is_not_at(&link));
                }
            }
        }
        Ok(slot)
    }

    /// The same, without waiting for the server to take it.
    pub(crate) fn send_ahead(&self, mut bytes: Vec<u8>, to: To) -> Result<Arc<Slot>> {
        let max = self.frame_bytes_max.load(Ordering::Relaxed);
        if bytes.len() - frame::LENGTH_BYTES > max {
            self.calls.lock().skip();
            return Err(Error::LimitExceeded {
                limit: "frame_bytes_max".to_owned(),
                max: max as u64,
                detail: format!("a request of {} bytes: send it in parts", bytes.len()),
            });
        }
        let cluster = match &self.net {
            Net::Alone(link) => return self.send_alone(link, bytes, to),
            Net::Cluster(cluster) => cluster,
        };
        if let Some(ended) = self.ended.get() {
            return Err(ended.clone());
        }
        loop {
            let table = cluster.table();
            let link = table.link_for(&to);
            if let Some(sent) = self.send_by(table.routes.version, link, &mut bytes, &to) {
                return sent;
            }
            // There are newer routes.
        }
    }

    fn send_alone(&self, link: &Arc<Link>, bytes: Vec<u8>, to: To) -> Result<Arc<Slot>> {
        let mut out = link.out();
        let (slot, report) = {
            let mut calls = self.calls.lock();
            let slot = calls.add(bytes, to, None, out.connection)?;
            (slot, calls.take_report())
        };
        if let Some(report) = report {
            link.write(&mut out, &encode_report(&report)?);
        }
        link.write(&mut out, &slot.frame);
        Ok(slot)
    }

    /// Sends by the routes of this version; `None` if there are others now.
    fn send_by(
        &self,
        version: u64,
        link: Option<&Arc<Link>>,
        bytes: &mut Vec<u8>,
        to: &To,
    ) -> Option<Result<Arc<Slot>>> {
        // Held until it is written, so that calls are written in the order of their numbers.
        let mut out = link.map(|link| link.out());
        let mut calls = self.calls.lock();
        if calls.version != version {
            return None;
        }
        let state = out.as_ref().map(|out| out.state);
        if state == Some(State::Closed) {
            return Some(Err(unavailable(
                "the cluster",
                "the server is no member any more".to_owned(),
            )));
        }
        let connection = match &out {
            Some(out) if !calls.holds(to) => out.connection,
            _ => 0,
        };
        let bytes = std::mem::take(bytes);
        let slot = match calls.add(bytes, to.clone(), link.cloned(), connection) {
            Ok(slot) => slot,
            Err(error) => return Some(Err(error)),
        };
        let report = calls.take_report();
        drop(calls);
        if let (Some(link), Some(out)) = (link, &mut out)
            && connection != 0
        {
            link.write(out, &slot.frame);
        }
        drop(out);
        if let Some(link) = link
            && state == Some(State::Idle)
        {
            self.want(link);
        }
        // It may have ended meanwhile, and then nobody sends what waits.
        if let (0, Some(ended)) = (connection, self.ended.get()) {
            self.fail_all(ended);
        }
        if let Some(report) = report {
            self.report(&report);
        }
        Some(Ok(slot))
    }

    /// Tells all servers what is in flight.
    fn report(&self, report: &InFlight) {
        let (Some(table), Ok(bytes)) = (self.table(), encode_report(report)) else {
            return;
        };
        for link in &table.links {
            link.write(&mut link.out(), &bytes);
        }
    }

    /// Waits while a server takes no more, perhaps because it waits for us to read; or until `done`.
    fn press(&self, link: &Arc<Link>, done: impl Fn() -> bool) {
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
    pub(crate) fn cancel(&self, slot: &Slot) {
        let mut bytes = Vec::new();
        let Some(object) = slot.object() else {
            return;
        };
        if frame::write_cancel(slot.sequence, object, &mut bytes).is_err() {
            return;
        }
        loop {
            let link = match &self.net {
                Net::Alone(link) => Some(link.clone()),
                Net::Cluster(_) => slot.link(),
            };
            let mut out = link.as_ref().map(|link| link.out());
            let mut calls = self.calls.lock();
            let Some(entry) = calls.get(slot.sequence) else {
                return;
            };
            // Wherever it is sent from now on, it is withdrawn as well.
            entry.withdrawn = true;
            let connection = out.as_ref().map_or(0, |out| out.connection);
            if entry.sent != 0 && entry.sent != connection {
                // It is elsewhere by now.
                continue;
            }
            if let (Some(link), Some(out)) = (&link, &mut out)
                && entry.sent != 0
            {
                link.write(out, &bytes);
            }
            return;
        }
    }
}

/// The frame of a request that is no call, without numbers.
pub(crate) fn encode(operation: &Operation) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    frame::write_operation(Sequence(0), Sequence(0), operation, &mut bytes)?;
    Ok(bytes)
}

fn encode_report(report: &InFlight) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    frame::write_in_flight(report, &mut bytes)?;
    Ok(bytes)
}
