//! Requests that are not answered yet: their numbers, and what is acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;

use crucial_object::{Error, Result, Sequence};
use crucial_proto::frame::{self, InFlight};

use super::member::Member;
use super::pending::PendingCall;

pub use crucial_proto::frame::CALLS_IN_FLIGHT_MAX;

/// How many numbers may be given out behind one that waits for long, until the servers are told exactly
/// what is in flight: then they can forget the results of the others.
const REPORT_AFTER: u64 = 1024;

/// Where the numbers of out-of-band requests begin. Only a session whose calls are numbered by position has these
/// requests: those that are no calls of objects.
pub(super) const OUT_OF_BAND: u64 = 1 << 62;

/// Requests in flight.
pub(super) struct Calls<W> {
    /// The last number given out.
    last: u64,
    /// The last number given to an out-of-band request.
    last_out_of_band: u64,
    in_flight: BTreeMap<u64, Entry<W>>,
    /// The last number when the servers were told exactly what is in flight.
    reported: u64,
    /// Calls are numbered by position and nothing is acknowledged: another attempt may ask for it again.
    keep_all: bool,
}

/// A request in flight.
pub(super) struct Entry<W> {
    pub call: Arc<PendingCall<W>>,
    /// The server from which the answer is to come; `None`: the routes name none.
    pub member: Option<Member>,
    /// The connection on which the request was sent; 0: it is still to be sent.
    pub sent: u64,
    /// Whether it was ever sent, to any server.
    pub tried: bool,
    /// Until then at least, on the client's clock, the session is known to have lived where the request is executed: from
    /// then on its result is kept for some leases. While the request is in flight, what its connection knows counts as
    /// well.
    pub vouched_ms: u64,
    /// Since when it has waited for a connection, on the client's clock.
    pub since_ms: Option<u64>,
    /// The caller does not wait any longer.
    pub withdrawn: bool,
}

/// How requests are sent: on which connection, with which acknowledgement.
#[derive(Clone, Copy)]
pub(super) struct Sending {
    pub connection: u64,
    pub acked: Sequence,
    /// Since when there is the connection.
    pub connected_ms: u64,
    /// Requests that were vouched for before this are not sent again: their results may be gone.
    pub oldest_ms: u64,
}

impl<W> Entry<W> {
    /// Whether it may be sent, for the first time or again.
    pub fn may_be_sent(&self, oldest_ms: u64) -> bool {
        !self.tried || self.vouched_ms >= oldest_ms
    }

    /// The request has to be sent anew, and cannot be yet.
    pub fn mark_unroutable(&mut self, now_ms: u64) {
        self.sent = 0;
        self.since_ms = Some(now_ms);
    }

    /// Appends the request's frame to `out`, with its withdrawal behind it if it was withdrawn.
    pub fn send(&mut self, sending: Sending, out: &mut Vec<u8>) {
        let call = &self.call;
        let start = out.len();
        out.extend_from_slice(&call.frame);
        frame::set_acked(&mut out[start..], sending.acked.min(call.sequence));
        if self.withdrawn
            && let Some(object) = call.object()
        {
            // A withdrawal has a constant size, so encoding it cannot fail.
            let _ = frame::write_cancel(call.sequence, object, out);
        }
        self.sent = sending.connection;
        if !self.tried {
            // If the request is executed at all, then after this.
            self.vouched_ms = sending.connected_ms;
        }
        self.tried = true;
        self.since_ms = None;
    }
}

impl<W> Calls<W> {
    /// `keep_all`: calls are numbered by position, and nothing is acknowledged. `random` keeps the numbers of
    /// out-of-band requests apart from those of an earlier attempt, which may have asked for something else.
    pub fn new(keep_all: bool, random: u64) -> Calls<W> {
        Calls {
            last: 0,
            last_out_of_band: OUT_OF_BAND + (random >> 3),
            in_flight: BTreeMap::new(),
            reported: 0,
            keep_all,
        }
    }

    /// The lowest number that is not answered; everything below is acknowledged.
    pub fn acked(&self) -> Sequence {
        if self.keep_all {
            return Sequence(1);
        }
        let first = self.in_flight.keys().next();
        Sequence(first.copied().unwrap_or(self.last + 1))
    }

    /// A call is not made. Where numbers are positions, the call keeps its own.
    pub fn skip(&mut self) {
        self.last += u64::from(self.keep_all);
    }

    /// Gives out a number, and sets it in the frame.
    pub fn number(&mut self, frame: &mut [u8], is_out_of_band: bool) -> Sequence {
        let acked = self.acked();
        let last = match is_out_of_band && self.keep_all {
            true => &mut self.last_out_of_band,
            false => &mut self.last,
        };
        *last += 1;
        let sequence = Sequence(*last);
        frame::set_numbers(frame, sequence, acked.min(sequence));
        sequence
    }

    /// Whether one more request may be in flight.
    pub fn check_room(&self) -> Result<()> {
        if self.in_flight.len() < CALLS_IN_FLIGHT_MAX {
            return Ok(());
        }
        Err(Error::LimitExceeded {
            limit: "CALLS_IN_FLIGHT_MAX".to_owned(),
            max: CALLS_IN_FLIGHT_MAX as u64,
            detail: "wait for some calls before starting more".to_owned(),
        })
    }

    /// Keeps a numbered request until it is answered.
    pub fn insert(&mut self, entry: Entry<W>) {
        self.in_flight.insert(entry.call.sequence.0, entry);
    }

    /// Takes a request out if `is_it`.
    pub fn remove_if(
        &mut self,
        sequence: Sequence,
        is_it: impl FnOnce(&Entry<W>) -> bool,
    ) -> Option<Entry<W>> {
        let entry = self.in_flight.remove(&sequence.0)?;
        if is_it(&entry) {
            return Some(entry);
        }
        self.in_flight.insert(sequence.0, entry);
        None
    }

    pub fn get(&mut self, sequence: Sequence) -> Option<&mut Entry<W>> {
        self.in_flight.get_mut(&sequence.0)
    }

    /// In the order of their numbers.
    pub fn entries(&self) -> impl Iterator<Item = &Entry<W>> {
        self.in_flight.values()
    }

    /// The same, to be changed.
    pub fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry<W>> {
        self.in_flight.values_mut()
    }

    /// Takes out those that `which` names.
    pub fn take(&mut self, mut which: impl FnMut(&Entry<W>) -> bool) -> Vec<Arc<PendingCall<W>>> {
        let taken = self.in_flight.extract_if(.., |_, entry| which(entry));
        taken.map(|(_, entry)| entry.call).collect()
    }

    /// Appends the frames of requests that `which` names and that may be sent, in the order of their numbers and with
    /// the present acknowledgement, which `sending` has.
    pub fn send(
        &mut self,
        sending: Sending,
        out: &mut Vec<u8>,
        mut which: impl FnMut(&Entry<W>) -> bool,
    ) {
        for entry in self.in_flight.values_mut() {
            if which(entry) && entry.may_be_sent(sending.oldest_ms) {
                entry.send(sending, out);
            }
        }
    }

    /// The list of requests in flight for the servers, if it is time to send it.
    pub fn take_report(&mut self) -> Option<InFlight> {
        if self.keep_all {
            return None;
        }
        // In proportion to the number in flight, so that reports cost each call a constant.
        let after = REPORT_AFTER.max(2 * self.in_flight.len() as u64);
        let is_held_up = self.last.saturating_sub(self.acked().0) >= after;
        if !is_held_up || self.last - self.reported < after {
            return None;
        }
        self.reported = self.last;
        Some(InFlight {
            last: Sequence(self.last),
            waiting: self.in_flight.keys().copied().map(Sequence).collect(),
        })
    }
}

/// Whether the answer to a request is to come from this server.
pub(super) fn is_for<W>(entry: &Entry<W>, member: Member) -> bool {
    entry.member == Some(member)
}
