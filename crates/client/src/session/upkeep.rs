//! The passing of time: signs of life, calls that are sent again or fail, servers that are silent.

use std::sync::Arc;
use std::time::Duration;

use crucial_object::{Error, ObjectId};
use crucial_proto::frame::Operation;

use super::calls::Entry;
use super::connect::append_unawaited;
use super::links::{LinkState, Phase};
use super::member::Member;
use super::pending::PendingCall;
use super::state::Session;

/// How often the client looks around while there is something to look for.
pub const TICK_MS: u64 = 50;

/// How often a client with nothing to look for looks around all the same.
const IDLE_MS: u64 = 60_000;

/// A server with calls that is silent for this long may be stopped, and others know more.
const SILENCE_MS: u64 = 250;

/// How often calls are looked for that have waited for too long.
const OVERDUE_LOOK_MS: u64 = 200;

/// For how long no server is connected before the seeds are tried, and again.
const PROBE_AFTER_MS: u64 = 500;

/// Calls that are to be sent again now.
pub struct Due {
    /// In rising order.
    objects: Vec<ObjectId>,
    now_ms: u64,
    /// Some of these calls wait for routes that do not come: other servers may have the routes.
    pub lacks_routes: bool,
}

impl<W> Session<W> {
    /// When to look around next.
    pub fn next_look_ms(&self, now_ms: u64) -> u64 {
        let is_calm = |link: &LinkState| link.is_up() && link.heard_ms >= link.signed_ms;
        let next = match &self.links[..] {
            // Others can tell more, if the one server is silent.
            [only] if is_calm(only) => match self.identity.is_exactly_once {
                true => now_ms + IDLE_MS,
                false => only.sign_due_ms,
            },
            _ => now_ms + TICK_MS,
        };
        let due = self.holds.next_due_ms();
        due.map_or(next, |due| due.min(next))
    }

    /// A server was heard.
    pub fn on_heard(&mut self, member: Member, now_ms: u64) {
        if let Some(link) = self.link_mut(member) {
            link.heard_ms = now_ms;
        }
    }

    /// The servers that have to be told that the client lives. (An exactly-once thread's session has no lease.)
    pub fn signs_due(&self, now_ms: u64) -> Vec<Member> {
        let is_due = |link: &&LinkState| link.is_up() && link.sign_due_ms <= now_ms;
        let links = self.links.iter().filter(is_due);
        let links = links.filter(|_| !self.identity.is_exactly_once);
        links.map(|link| link.member).collect()
    }

    /// Tells a server that the client lives.
    pub fn write_sign(&mut self, member: Member, now_ms: u64, out: &mut Vec<u8>) {
        let mut links = self.links.iter_mut();
        let Some(link) = links.find(|link| link.member == member && link.is_up()) else {
            return;
        };
        // A ping has a constant size, so encoding it cannot fail.
        if let Some(sequence) = append_unawaited(&mut self.calls, &Operation::Ping, out) {
            link.sign(sequence, now_ms);
        }
    }

    /// The objects with calls that were answered "moved", and have waited for long enough.
    pub fn due(&self, now_ms: u64) -> Option<Due> {
        let objects = self.holds.due(now_ms);
        let lacks_routes = self.holds.lacks_routes(&objects, self.table.version());
        let due = Due {
            objects,
            now_ms,
            lacks_routes,
        };
        (!due.objects.is_empty()).then_some(due)
    }

    /// Sends the due calls of this server again.
    pub fn send_due(&mut self, due: &Due, member: Member, out: &mut Vec<u8>) {
        let Some(sending) = self.sending(member, due.now_ms) else {
            return;
        };
        self.note_vouched();
        let place = self.table.place_of(member);
        let here = due.objects.iter().copied();
        // A hold may have ended meanwhile: then the object's calls were sent.
        let here = here.filter(|object| {
            self.table.place_of_object(object) == place && self.holds.holds(object)
        });
        let here: Vec<ObjectId> = here.collect();
        self.calls.send(sending, out, |entry| {
            let object = entry.call.object();
            object.is_some_and(|object| here.binary_search(&object).is_ok())
        });
        here.iter()
            .for_each(|object| self.holds.on_sent_again(object));
        self.forget_holds();
    }

    /// Due calls that could not be sent again wait on.
    pub fn postpone_due(&mut self, now_ms: u64) {
        self.holds.postpone(now_ms);
    }

    /// Takes out the calls that could not be sent for as long as the client has patience, each with its error; and
    /// those that must not be sent again, as their results may be gone.
    pub fn take_overdue(
        &mut self,
        patience: Duration,
        now_ms: u64,
    ) -> Vec<(Arc<PendingCall<W>>, Error)> {
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        if now_ms < self.schedule.overdue_look_ms {
            return Vec::new();
        }
        self.schedule.overdue_look_ms = now_ms + OVERDUE_LOOK_MS.min(patience_ms / 4);
        let is_up = |member: Member| {
            let mut links = self.links.iter();
            links.any(|link| link.member == member && link.is_up())
        };
        for entry in self.calls.entries_mut().filter(|entry| entry.sent == 0) {
            let object = entry.call.object();
            let is_held = object.is_some_and(|object| self.holds.holds(&object));
            if is_held && entry.member.is_some_and(is_up) {
                entry.since_ms = None;
            } else {
                entry.since_ms.get_or_insert(now_ms);
            }
        }
        let oldest_ms = self.oldest_ms(now_ms);
        let may_not_be_sent = |entry: &Entry<W>| entry.sent == 0 && !entry.may_be_sent(oldest_ms);
        let expired = self.calls.take(may_not_be_sent).into_iter();
        let expired: Vec<_> = expired.map(|call| (call, Error::SessionExpired)).collect();
        let mut members = Vec::new();
        let overdue = self.calls.take(|entry| {
            let since_ms = entry.since_ms.filter(|_| entry.sent == 0);
            let is_overdue = since_ms.is_some_and(|since_ms| now_ms - since_ms >= patience_ms);
            if is_overdue {
                members.push(entry.member);
            }
            is_overdue
        });
        if !(overdue.is_empty() && expired.is_empty()) {
            self.forget_holds();
        }
        let errors = members
            .into_iter()
            .map(|member| self.no_connection(member, patience));
        let errors: Vec<Error> = errors.collect();
        let overdue = overdue.into_iter().zip(errors);
        expired.into_iter().chain(overdue).collect()
    }

    fn no_connection(&self, member: Option<Member>, patience: Duration) -> Error {
        let place = member.and_then(|member| self.table.place_of(member));
        let address = place.map_or("the cluster", |place| self.table.address(place));
        let failure = place.and_then(|place| self.links[place].failure.as_ref());
        let failure = failure.map_or_else(String::new, |failure| format!(": {failure}"));
        Error::Unavailable {
            address: address.to_owned(),
            reason: format!("no connection for {patience:?}{failure}"),
        }
    }

    /// The servers that have, or are to have, something of the client: it keeps its session there. The owner of a run
    /// keeps it at all servers.
    pub fn wanted(&self) -> Vec<Member> {
        let mut used = vec![self.identity.owner; self.links.len()];
        for (partition, _) in self.touched.iter().enumerate().filter(|(_, t)| **t) {
            if let Some(place) = self.table.primary(partition) {
                used[place] = true;
            }
        }
        let links = self.links.iter().zip(used);
        links
            .filter(|(_, used)| *used)
            .map(|(link, _)| link.member)
            .collect()
    }

    /// Whether a server with calls is silent, or not there, so that it is time to ask others.
    pub fn lacks_news(&self, now_ms: u64) -> bool {
        if self.links.iter().all(LinkState::is_up) {
            return false;
        }
        let is_quiet = |link: &&LinkState| match link.phase {
            Phase::Connecting => true,
            Phase::Up => now_ms.saturating_sub(link.heard_ms) >= SILENCE_MS,
            Phase::Idle => false,
        };
        let quiet: Vec<Member> = self
            .links
            .iter()
            .filter(is_quiet)
            .map(|l| l.member)
            .collect();
        if quiet.is_empty() && self.table.is_whole() {
            return false;
        }
        let mut entries = self.calls.entries();
        entries.any(|entry| entry.member.is_none_or(|member| quiet.contains(&member)))
    }

    /// Whether the seeds are to be tried, as no member has been connected for long.
    pub fn begin_probing(&mut self, now_ms: u64) -> bool {
        let is_connected = self.links.iter().any(LinkState::is_up);
        let is_late = now_ms >= self.schedule.connected_ms + PROBE_AFTER_MS;
        if is_connected || is_late {
            self.schedule.connected_ms = now_ms;
        }
        is_late && !is_connected && !self.has_ended()
    }
}
