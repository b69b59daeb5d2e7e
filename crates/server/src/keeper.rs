//! Time: leases that lapse, waiting calls that time out, connections that say nothing.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::io;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crucial_core::CallId;
use crucial_object::Error;
use parking_lot::{Condvar, Mutex};

use crate::connection::Connection;
use crate::service::{Effects, Service};
use crate::slot::{Ending, Event, Slot};

/// A new connection has this long to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Leases are looked at this often in each lease.
const LOOKS_PER_LEASE: u32 = 8;

/// After so many looks at leases that did not come the process was stopped.
const STOPPED_LOOKS: u32 = 3;

/// In a cluster: for so many leases the results of a session that was silent are kept.
const SILENT_KEPT_LEASES: u64 = 12;

/// Below this many deadlines nobody looks for those that have lost their meaning.
const PURGE_AT_MIN: usize = 1024;

/// What happens when.
pub(crate) struct Keeper {
    deadlines: Mutex<BinaryHeap<Deadline>>,
    /// An earlier deadline came, or the server stops.
    changed: Condvar,
}

struct Deadline {
    at: Instant,
    what: What,
}

enum What {
    /// The call, if it still waits, ends.
    TimeOut(CallId, Weak<Slot>, Duration),
    /// The connection, if it is still without a session, closes.
    Hello(Weak<Connection>),
    /// Look at the leases.
    Leases,
}

impl Keeper {
    pub fn new() -> Keeper {
        Keeper {
            deadlines: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub fn time_out(&self, call: CallId, slot: &Arc<Slot>, after: Duration) {
        self.add(after, What::TimeOut(call, Arc::downgrade(slot), after));
    }

    /// The time of a call was up, and it could not be ended yet: look again.
    pub fn time_out_late(
        &self,
        call: CallId,
        slot: &Arc<Slot>,
        (look, after): (Duration, Duration),
    ) {
        self.add(look, What::TimeOut(call, Arc::downgrade(slot), after));
    }

    pub fn expect_hello(&self, connection: &Arc<Connection>) {
        self.add(HELLO_TIMEOUT, What::Hello(Arc::downgrade(connection)));
    }

    fn add(&self, after: Duration, what: What) {
        let deadline = Deadline {
            at: Instant::now() + after,
            what,
        };
        let mut deadlines = self.deadlines.lock();
        let first = deadlines.peek().is_none_or(|next| deadline.at < next.at);
        deadlines.push(deadline);
        if first {
            self.changed.notify_one();
        }
    }

    pub fn len(&self) -> usize {
        self.deadlines.lock().len()
    }

    pub fn wake(&self) {
        let _deadlines = self.deadlines.lock();
        self.changed.notify_one();
    }

    /// Waits for the next deadline; `None` when the server stops.
    fn next(&self, service: &Service, purge_at: &mut usize) -> Option<What> {
        let mut deadlines = self.deadlines.lock();
        loop {
            if service.is_stopping() {
                return None;
            }
            if deadlines.len() > *purge_at {
                deadlines.retain(|deadline| deadline.what.has_meaning(service));
                *purge_at = (2 * deadlines.len()).max(PURGE_AT_MIN);
            }
            match deadlines.peek().map(|next| next.at) {
                Some(at) if at <= Instant::now() => return deadlines.pop().map(|due| due.what),
                Some(at) => {
                    self.changed.wait_until(&mut deadlines, at);
                }
                None => self.changed.wait(&mut deadlines),
            }
        }
    }
}

impl What {
    /// Whether the call still waits, or the connection is still open.
    fn has_meaning(&self, service: &Service) -> bool {
        match self {
            What::TimeOut(call, ..) => {
                let session = service.sessions.find(call.session);
                session.is_some_and(|session| session.is_parked(call.sequence))
            }
            What::Hello(connection) => connection.strong_count() > 0,
            What::Leases => true,
        }
    }
}

/// Starts the keeper's thread.
pub(crate) fn start(service: &Arc<Service>) -> io::Result<JoinHandle<()>> {
    let service = service.clone();
    let look = service.lease / LOOKS_PER_LEASE;
    service.keeper.add(look, What::Leases);
    std::thread::Builder::new()
        .name("crucial-keeper".to_owned())
        .spawn(move || {
            let mut purge_at = PURGE_AT_MIN;
            let mut watch = Watch {
                pause: look,
                looked: Instant::now(),
                had_lease: true,
            };
            while let Some(what) = service.keeper.next(&service, &mut purge_at) {
                let mut effects = Effects::new(&service);
                handle(&service, what, &mut watch, &mut effects);
                service.post(&mut effects);
            }
        })
}

/// What the keeper has seen when it looked at the leases the last time.
struct Watch {
    /// Until it looks again.
    pause: Duration,
    looked: Instant,
    /// This server's own.
    had_lease: bool,
}

impl Watch {
    fn look(&mut self, service: &Service, effects: &mut Effects<'_>) {
        let was_stopped = self.looked.elapsed() > STOPPED_LOOKS * self.pause;
        self.looked = Instant::now();
        let now_ms = service.now_ms();
        let cluster = service.cluster.as_ref();
        let has_lease = cluster.is_none_or(|cluster| cluster.has_lease(now_ms));
        let had_lease = std::mem::replace(&mut self.had_lease, has_lease);
        if was_stopped || !had_lease {
            // This process was stopped, or starved, and could hear nobody meanwhile; or it could answer nobody.
            service.sessions.forgive(now_ms);
        }
        // Who is cut off takes nobody for dead.
        if has_lease {
            end_lapsed(service, now_ms, effects);
        }
    }
}

fn handle(service: &Service, what: What, watch: &mut Watch, effects: &mut Effects<'_>) {
    match what {
        What::TimeOut(call, slot, after) => {
            let Some(slot) = slot.upgrade() else { return };
            service.time_out(call, &slot, after, effects);
        }
        What::Hello(connection) => {
            if let Some(connection) = connection.upgrade()
                && !connection.is_known()
            {
                connection.refuse(&Error::Protocol {
                    detail: format!("no hello within {HELLO_TIMEOUT:?}"),
                });
                connection.flush();
            }
        }
        What::Leases => {
            watch.look(service, effects);
            service.keeper.add(watch.pause, What::Leases);
        }
    }
}

fn end_lapsed(service: &Service, now_ms: u64, effects: &mut Effects<'_>) {
    let lease_ms = service.lease.as_millis() as u64;
    for session in service.sessions.lapsed(now_ms, lease_ms) {
        tracing::debug!(session = session.0, "lease lapsed");
        service.lapse_session(session, effects);
    }
    if service.cluster.is_some() {
        for (session, places) in service.sessions.absent(now_ms, lease_ms) {
            tracing::debug!(session = session.0, "it did not turn up");
            service.sessions.note_silent(session, now_ms);
            service.tell_departed((session, Ending::Silent), places, effects);
            service.sessions.departed(session);
        }
        let kept_ms = SILENT_KEPT_LEASES * lease_ms;
        service
            .sessions
            .forget_silent(now_ms.saturating_sub(kept_ms));
        for object in service.sessions.orphans(now_ms, lease_ms) {
            service.offer(object, Event::Remove(None), effects);
        }
    }
}

/// The earliest is the greatest, as the heap wants it.
impl Ord for Deadline {
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at)
    }
}

impl PartialOrd for Deadline {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Deadline {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Deadline {}
