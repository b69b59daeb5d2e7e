//! The keeper of a client of a cluster: it reads where nobody else does, sends what is to be sent again, and sees to
//! it that there are links to hear news from.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crucial_core::frame::Operation;
use crucial_object::ObjectId;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags};

use crate::Client;
use crate::handshake::unavailable;
use crate::keeper::{Bell, SIGNS_PER_LEASE, State};
use crate::link::{self, Link};
use crate::routes::{Table, is_old};
use crate::send::encode;
use crate::socket::{Socket, poll};

/// How often the keeper looks around.
const TICK: Duration = Duration::from_millis(50);

/// A server with calls that is silent for so long may be stopped, and others know more.
const SILENCE_MS: u64 = 250;

/// A call that was sent by older routes is sent again when there have been no newer ones for so long: its server may
/// have lost and regained its object meanwhile, and with it the answer.
const SETTLED_MS: u64 = 1000;

/// How often is looked for calls that have waited for too long.
const LOOK_FOR_STRANDED: Duration = Duration::from_millis(200);

/// Reads from one link in a row.
const READS_MAX: usize = 64;

/// How long nobody is connected before the seeds are tried, and again.
const SCOUT_AFTER: Duration = Duration::from_millis(500);

/// What the keeper remembers.
struct Watch {
    /// When it looks around next.
    next: Instant,
    /// When it looks next for calls that have waited for too long.
    stranded: Instant,
    /// The version of the routes by which all calls were sent.
    settled: u64,
    /// When somebody was connected last, or the seeds were tried.
    connected: Instant,
}

/// Runs until the client is dropped; it holds the client only while it does something.
pub(crate) fn watch(state: &Mutex<State>, client: &Weak<Client>, mut bell: Bell) {
    let mut watch = Watch {
        next: Instant::now(),
        stranded: Instant::now(),
        settled: 0,
        connected: Instant::now(),
    };
    loop {
        let tick = Instant::now() + TICK;
        let Some(client) = client.upgrade() else {
            return;
        };
        let Some(table) = client.table() else {
            return;
        };
        client.tick(&table, &mut watch);
        let due = client.calls.lock().next_due();
        let until = due.map_or(tick, |due| due.min(tick));
        let sockets = match client.has_tasks() {
            true => unread(&table),
            false => Vec::new(),
        };
        drop(client);
        if !state.lock().look {
            sleep(&bell, &sockets, until);
        }
        bell.hush();
        let mut state = state.lock();
        state.look = false;
        if state.stopped {
            return;
        }
    }
}

/// The sockets from which nobody reads now.
fn unread(table: &Table) -> Vec<(Arc<Socket>, Arc<Link>)> {
    let links = table.links.iter();
    let sockets = links.filter_map(|link| {
        let socket = link.reader.try_lock()?.socket()?;
        // Who came meanwhile found the reader busy.
        link.appoint(|slot| slot.lead(Some(link)));
        Some((socket, link.clone()))
    });
    sockets.collect()
}

/// Sleeps until then, or the bell rings, or there is something to read.
fn sleep(bell: &Bell, sockets: &[(Arc<Socket>, Arc<Link>)], until: Instant) {
    let mut fds = vec![PollFd::from_borrowed_fd(bell.fd(), PollFlags::IN)];
    fds.extend(sockets.iter().map(|(socket, link)| {
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, link.has_backlog());
        PollFd::from_borrowed_fd(socket.fd(), flags)
    }));
    poll(
        &mut fds,
        Some(until.saturating_duration_since(Instant::now())),
    );
}

impl Client {
    fn tick(&self, table: &Table, watch: &mut Watch) {
        for link in &table.links {
            self.read_for_nobody(link);
        }
        let now = Instant::now();
        if self.config.exactly_once.is_none() {
            self.give_signs(table);
        }
        self.send_held(table, now);
        if now < watch.next {
            return;
        }
        watch.next = now + TICK;
        if now >= watch.stranded {
            watch.stranded = now + LOOK_FOR_STRANDED.min(self.config.patience / 4);
            self.fail_stranded(table, now);
        }
        self.link_up(table);
        if self.lacks_news(table) {
            self.want_all(table);
        }
        self.settle(table, watch);
        if table.links.iter().any(|link| link.is_up()) {
            watch.connected = now;
        } else if now.duration_since(watch.connected) >= SCOUT_AFTER && !self.has_ended() {
            watch.connected = now;
            self.scout();
        }
    }

    /// Reads from a link what is there, unless somebody does.
    fn read_for_nobody(&self, link: &Arc<Link>) {
        if link.has_backlog() {
            link.flush(&mut link.out());
        }
        let Some(mut reader) = link.reader.try_lock() else {
            return;
        };
        for _ in 0..READS_MAX {
            if !self.take_replies(link, &mut reader) {
                break;
            }
        }
        drop(reader);
        link.appoint(|slot| slot.lead(Some(link)));
    }

    /// Tells servers that the client lives. Their answers are of no interest: the requests are in flight to nobody.
    fn give_signs(&self, table: &Table) {
        let now = self.now_ms();
        for link in &table.links {
            if now < link.sign_ms.load(Ordering::Relaxed) {
                continue;
            }
            let mut out = link.out();
            if out.state != link::State::Up {
                continue;
            }
            let Ok(mut ping) = encode(&Operation::Ping) else {
                return;
            };
            self.calls.lock().number(&mut ping, true);
            link.write(&mut out, &ping);
            let pause = link.lease_ms.load(Ordering::Relaxed) / SIGNS_PER_LEASE;
            link.sign_ms.store(now + pause, Ordering::Relaxed);
        }
    }

    /// Sends again what was answered "moved", and has waited for a moment.
    fn send_held(&self, table: &Table, now: Instant) {
        let (due, lacks_routes) = {
            let calls = self.calls.lock();
            let due = calls.due(now);
            let lacks_routes = calls.lacks_routes(&due);
            (due, lacks_routes)
        };
        if due.is_empty() {
            return;
        }
        if lacks_routes {
            self.want_all(table);
        }
        let at = |object: &ObjectId| table.link_of(object);
        for link in &table.links {
            let mine = |object: &&ObjectId| at(object).is_some_and(|at| Arc::ptr_eq(at, link));
            let mine: Vec<ObjectId> = due.iter().filter(mine).copied().collect();
            let mut out = link.out();
            let mut calls = self.calls.lock();
            if out.state != link::State::Up || calls.version != table.routes.version {
                continue;
            }
            calls.send(link, &mut out, |entry| {
                let object = entry.slot.object();
                object.is_some_and(|object| mine.binary_search(&object).is_ok())
            });
            mine.iter().for_each(|object| calls.sent_again(object));
            drop(calls);
            link.flush(&mut out);
        }
        self.calls.lock().postpone(now);
    }

    /// Fails calls that could not be sent for too long.
    fn fail_stranded(&self, table: &Table, now: Instant) {
        let up: Vec<_> = table.links.iter().filter(|link| link.is_up()).collect();
        let patience = self.config.patience;
        let mut calls = self.calls.lock();
        let held = calls.held_objects();
        let is_held = |object: &_| held.binary_search(object).is_ok();
        for entry in calls.entries().filter(|entry| entry.sent == 0) {
            if entry.slot.object().as_ref().is_some_and(is_held)
                && up.iter().any(|link| entry.is_for(link))
            {
                entry.since = None;
            } else {
                entry.since.get_or_insert(now);
            }
        }
        let stranded = calls.take(|entry| {
            let since = entry.since.filter(|_| entry.sent == 0);
            since.is_some_and(|since| now.duration_since(since) >= patience)
        });
        drop(calls);
        for slot in stranded {
            let address = match slot.link() {
                Some(link) => link.address.clone(),
                None => "the cluster".to_owned(),
            };
            let error = unavailable(address, format!("no connection for {patience:?}"));
            slot.complete(Err(error), &self.tasks);
        }
    }

    /// Whether a server with calls is silent, or not there, so that it is time to ask others.
    fn lacks_news(&self, table: &Table) -> bool {
        let now = self.now_ms();
        let silent_ms = |link: &Link| now.saturating_sub(link.heard_ms.load(Ordering::Relaxed));
        let quiet = |link: &Link| match link.out().state {
            link::State::Connecting => true,
            link::State::Up => silent_ms(link) >= SILENCE_MS,
            link::State::Idle | link::State::Closed => false,
        };
        if table.links.iter().all(|link| link.is_up()) {
            return false;
        }
        let quiet: Vec<_> = table.links.iter().filter(|link| quiet(link)).collect();
        if quiet.is_empty() && table.is_whole() {
            return false;
        }
        let mut calls = self.calls.lock();
        calls.entries().any(|entry| match entry.slot.link() {
            None => true,
            Some(at) => quiet.iter().any(|link| Arc::ptr_eq(link, &at)),
        })
    }

    fn want_all(&self, table: &Table) {
        for link in &table.links {
            self.want(link);
        }
    }

    /// Sends again what was sent by older routes, when there have been no newer ones for a while.
    fn settle(&self, table: &Table, watch: &mut Watch) {
        let version = table.routes.version;
        if watch.settled == 0 {
            watch.settled = version;
        }
        if watch.settled == version || self.now_ms() < table.since_ms + SETTLED_MS {
            return;
        }
        watch.settled = version;
        for link in &table.links {
            let mut out = link.out();
            if out.state != link::State::Up {
                continue;
            }
            let mut calls = self.calls.lock();
            if calls.version == version {
                calls.send(link, &mut out, |entry| {
                    is_old(entry, version) && entry.is_for(link)
                });
            }
            drop(calls);
            link.flush(&mut out);
        }
    }
}
