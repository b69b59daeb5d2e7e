//! What is not answered yet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crucial_core::frame::{self, InFlight};
use crucial_object::{Error, ObjectId, Result, Sequence};

use crate::CALLS_IN_FLIGHT_MAX;
use crate::link::{Link, Out};
use crate::pending::{Slot, To};

/// How many numbers may be given out behind one that waits for long, until the server is told exactly
/// what is in flight: then it can forget the results of the others.
const TELL_AFTER: u64 = 1024;

/// Where the numbers begin that requests have which are no calls of objects, where those are numbered by position.
const ASIDE: u64 = 1 << 62;

/// A call that was not executed, though its server is the right one, is sent again after a pause: each is twice
/// the one before, from the first to the last.
const MOVED_PAUSE_FIRST: Duration = Duration::from_millis(5);
const MOVED_PAUSE_LAST: Duration = Duration::from_millis(100);

/// Calls in flight.
pub(crate) struct Calls {
    /// The last number given out.
    last: u64,
    /// The last number given to a request that is no call, where calls are numbered by position.
    last_aside: u64,
    in_flight: BTreeMap<u64, Entry>,
    /// The last number when the server was told exactly what is in flight.
    told: u64,
    /// Nothing is acknowledged: another attempt may ask for it again.
    keep_all: bool,
    /// In a cluster: the version of the routes by which calls are sent.
    pub version: u64,
    /// Objects with calls that were answered "moved".
    held: BTreeMap<ObjectId, Held>,
}

/// A call in flight.
pub(crate) struct Entry {
    pub slot: Arc<Slot>,
    /// The connection on which it was sent; 0: it is to be sent.
    pub sent: u64,
    /// The version of the routes then.
    pub version: u64,
    /// It was sent before, somewhere.
    pub tried: bool,
    /// Since when there has been no connection to send it on.
    pub since: Option<Instant>,
    /// Its caller does not want to wait any longer.
    pub withdrawn: bool,
}

/// Nothing of an object is sent while one of its calls is to be sent again, so that they keep their order.
struct Held {
    /// Until then, or until there are newer routes. `None`: it was sent again.
    due: Option<Instant>,
    pause: Duration,
    /// Routes of this version are to come.
    needs: u64,
}

impl Entry {
    /// It is not sent any more, and there is nowhere to send it.
    pub fn strand(&mut self, now: Instant) {
        self.sent = 0;
        self.since = Some(now);
    }

    pub fn is_for(&self, link: &Arc<Link>) -> bool {
        self.slot
            .link()
            .is_some_and(|present| Arc::ptr_eq(&present, link))
    }
}

impl Calls {
    /// `keep_all`: calls are numbered by position, and nothing is acknowledged.
    pub fn new(keep_all: bool, random: u64) -> Calls {
        Calls {
            last: 0,
            // Not those of an earlier attempt: it may have asked for something else.
            last_aside: ASIDE + (random >> 3),
            in_flight: BTreeMap::new(),
            told: 0,
            keep_all,
            version: 0,
            held: BTreeMap::new(),
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

    /// A call is not made. Where numbers are positions, it keeps its own.
    pub fn skip(&mut self) {
        self.last += u64::from(self.keep_all);
    }

    /// Gives out a number, and sets it in the frame.
    pub fn number(&mut self, frame: &mut [u8], is_aside: bool) -> Sequence {
        let acked = self.acked();
        let last = if is_aside && self.keep_all {
            &mut self.last_aside
        } else {
            &mut self.last
        };
        *last += 1;
        let sequence = Sequence(*last);
        frame::set_numbers(frame, sequence, acked.min(sequence));
        sequence
    }

    /// Numbers a request, and keeps it until it is answered.
    pub fn add(
        &mut self,
        mut frame: Vec<u8>,
        to: To,
        link: Option<Arc<Link>>,
        sent: u64,
    ) -> Result<Arc<Slot>> {
        if self.in_flight.len() >= CALLS_IN_FLIGHT_MAX {
            self.skip();
            return Err(Error::LimitExceeded {
                limit: "CALLS_IN_FLIGHT_MAX".to_owned(),
                max: CALLS_IN_FLIGHT_MAX as u64,
                detail: "wait for some calls before starting more".to_owned(),
            });
        }
        let is_aside = link.is_some() && matches!(to, To::Server(_));
        let sequence = self.number(&mut frame, is_aside);
        let slot = Arc::new(Slot::new(sequence, to, frame, link));
        let entry = Entry {
            slot: slot.clone(),
            sent,
            version: self.version,
            tried: sent > 0,
            since: (sent == 0).then(Instant::now),
            withdrawn: false,
        };
        self.in_flight.insert(sequence.0, entry);
        Ok(slot)
    }

    /// The answer has come.
    pub fn remove(&mut self, sequence: Sequence) -> Option<Arc<Slot>> {
        let entry = self.in_flight.remove(&sequence.0)?;
        if !self.held.is_empty()
            && let Some(object) = entry.slot.object()
            && self
                .held
                .get(&object)
                .is_some_and(|held| held.due.is_none())
        {
            self.held.remove(&object);
        }
        Some(entry.slot)
    }

    pub fn get(&mut self, sequence: Sequence) -> Option<&mut Entry> {
        self.in_flight.get_mut(&sequence.0)
    }

    /// In the order of their numbers.
    pub fn entries(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.in_flight.values_mut()
    }

    pub fn take_all(&mut self) -> Vec<Arc<Slot>> {
        self.held.clear();
        let all = std::mem::take(&mut self.in_flight);
        all.into_values().map(|entry| entry.slot).collect()
    }

    /// Those of which `which` says so; they are in flight no more.
    pub fn take(&mut self, mut which: impl FnMut(&Entry) -> bool) -> Vec<Arc<Slot>> {
        let mut taken = Vec::new();
        self.in_flight.retain(|_, entry| {
            let take = which(entry);
            if take {
                taken.push(entry.slot.clone());
            }
            !take
        });
        taken
    }

    /// Appends the frames of calls that `which` names to what is written at `link`: in their order, with the present
    /// acknowledgement.
    pub fn send(&mut self, link: &Link, out: &mut Out, mut which: impl FnMut(&Entry) -> bool) {
        let (acked, version) = (self.acked(), self.version);
        for entry in self.in_flight.values_mut() {
            if which(entry) {
                entry.send(link, out, acked, version);
            }
        }
    }

    /// What the server is to be told, if it is time.
    pub fn take_report(&mut self) -> Option<InFlight> {
        if self.keep_all {
            return None;
        }
        // In proportion, so that telling costs each call a constant.
        let patience = TELL_AFTER.max(2 * self.in_flight.len() as u64);
        let held_up = self.last.saturating_sub(self.acked().0) >= patience;
        if !held_up || self.last - self.told < patience {
            return None;
        }
        self.told = self.last;
        Some(InFlight {
            last: Sequence(self.last),
            waiting: self.in_flight.keys().copied().map(Sequence).collect(),
        })
    }
}

impl Entry {
    /// Appends its frame to what is written at `link`.
    pub fn send(&mut self, link: &Link, out: &mut Out, acked: Sequence, version: u64) {
        let (slot, withdrawn) = (&self.slot, self.withdrawn);
        link.append(out, |bytes| {
            let start = bytes.len();
            bytes.extend_from_slice(&slot.frame);
            frame::set_acked(&mut bytes[start..], acked.min(slot.sequence));
            if withdrawn && let Some(object) = slot.object() {
                // It has a constant size: it can be encoded.
                let _ = frame::write_cancel(slot.sequence, object, bytes);
            }
        });
        self.sent = out.connection;
        self.version = version;
        self.tried = true;
        self.since = None;
    }
}

/// What was answered "moved".
impl Calls {
    /// Whether a call of the object must not be sent now.
    pub fn holds(&self, to: &To) -> bool {
        match to {
            To::Object(object) if !self.held.is_empty() => self.is_held(object),
            _ => false,
        }
    }

    fn is_held(&self, object: &ObjectId) -> bool {
        self.held.get(object).is_some_and(|held| held.due.is_some())
    }

    /// A request that was sent on `connection` was not executed, as the server has routes of another version.
    pub fn moved(&mut self, sequence: Sequence, connection: u64, needs: u64, now: Instant) {
        let Some(entry) = self.in_flight.get_mut(&sequence.0) else {
            return;
        };
        let Some(object) = entry.slot.object() else {
            return;
        };
        if entry.sent != connection {
            // It has been sent elsewhere since.
            return;
        }
        entry.sent = 0;
        let waits = needs > self.version;
        let held = self.held.entry(object).or_insert(Held {
            due: None,
            pause: MOVED_PAUSE_FIRST,
            needs,
        });
        held.needs = held.needs.max(needs);
        if held.due.is_none() {
            let pause = if waits { MOVED_PAUSE_LAST } else { held.pause };
            held.due = Some(now + pause);
            held.pause = (2 * pause).min(MOVED_PAUSE_LAST);
        }
    }

    /// When the next of them is to be sent again.
    pub fn next_due(&self) -> Option<Instant> {
        self.held.values().filter_map(|held| held.due).min()
    }

    /// Objects with calls that are to be sent again now, in rising order.
    pub fn due(&self, now: Instant) -> Vec<ObjectId> {
        let due = self.held.iter();
        let due = due.filter(|(_, held)| held.due.is_some_and(|due| due <= now));
        due.map(|(object, _)| *object).collect()
    }

    /// Whether calls of one of these objects wait for routes that do not come.
    pub fn lacks_routes(&self, due: &[ObjectId]) -> bool {
        let needs = due.iter().filter_map(|object| self.held.get(object));
        needs.into_iter().any(|held| held.needs > self.version)
    }

    /// All calls of the object were sent again.
    pub fn sent_again(&mut self, object: &ObjectId) {
        if let Some(held) = self.held.get_mut(object) {
            held.due = None;
        }
    }

    /// Those that could not be sent again wait on.
    pub fn postpone(&mut self, now: Instant) {
        for held in self.held.values_mut() {
            if held.due.is_some_and(|due| due <= now) {
                held.due = Some(now + MOVED_PAUSE_LAST);
            }
        }
    }

    /// There are newer routes: what they settle is to be sent.
    pub fn release(&mut self) -> Vec<ObjectId> {
        let version = self.version;
        let settled = self.held.extract_if(.., |_, held| held.needs <= version);
        settled.map(|(object, _)| object).collect()
    }

    /// All calls of the object are sent now.
    pub fn unhold(&mut self, object: &ObjectId) {
        self.held.remove(object);
    }

    /// Objects of which nothing is sent now, in rising order.
    pub fn held_objects(&self) -> Vec<ObjectId> {
        let held = self.held.iter().filter(|(_, held)| held.due.is_some());
        held.map(|(object, _)| *object).collect()
    }
}
