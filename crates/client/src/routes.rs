//! A cluster: which server answers for what, and the links to them.
//!
//! When newer routes come, all links are locked at once, so that no frame is numbered or written by the older ones
//! behind the server's being told of the newer. A call that is in flight to a server that does not answer for it any
//! more is sent where the new routes say, in the order of the numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crucial_core::frame::{self, Routes};
use crucial_object::{Error, ObjectId, Result};
use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::calls::{Calls, Entry};
use crate::handshake::unavailable;
use crate::link::{Life, Link, Out, State};
use crate::pending::{Slot, To};
use crate::{Client, Net};

/// Servers that a cluster may have.
const SERVERS_MAX: usize = 4096;

pub(crate) struct Cluster {
    /// Held while newer routes are taken up, or a connection is.
    taking: Mutex<()>,
    table: RwLock<Arc<Table>>,
    /// A thread tries the seeds.
    pub scouting: AtomicBool,
}

/// Routes, and a link to each of their servers.
pub(crate) struct Table {
    pub routes: Routes,
    /// When they came, on the client's clock.
    pub since_ms: u64,
    /// In the order of the routes' servers.
    pub links: Vec<Arc<Link>>,
    /// A bit for each partition that the client has used.
    touched: Vec<AtomicU64>,
}

impl Table {
    fn new(routes: Routes, known: &[Arc<Link>], since_ms: u64) -> Table {
        let links = routes.servers.iter().map(|server| {
            let life = Life {
                node: server.node,
                incarnation: server.incarnation,
            };
            let known = known.iter().find(|link| link.life == life).cloned();
            known.unwrap_or_else(|| Link::new(life, server.address.clone()))
        });
        let words = routes.primaries.len().div_ceil(u64::BITS as usize);
        Table {
            since_ms,
            links: links.collect(),
            touched: (0..words).map(|_| AtomicU64::new(0)).collect(),
            routes,
        }
    }

    /// The next table, with the links and the touched partitions of this one.
    fn next(&self, routes: Routes, now_ms: u64) -> Table {
        let next = Table::new(routes, &self.links, now_ms);
        let is_alike = next.routes.primaries.len() == self.routes.primaries.len();
        for (to, from) in next.touched.iter().zip(&self.touched) {
            let from = from.load(Ordering::Relaxed);
            to.store(if is_alike { from } else { u64::MAX }, Ordering::Relaxed);
        }
        next
    }

    /// Notes that the client uses a partition, and will have something there.
    fn touch(&self, partition: usize) {
        let bit = 1 << (partition % 64);
        if let Some(word) = self.touched.get(partition / 64)
            && word.load(Ordering::Relaxed) & bit == 0
        {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    fn has_touched(&self, partition: usize) -> bool {
        let word = self.touched.get(partition / 64);
        word.is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (partition % 64)) != 0)
    }

    /// The place of a partition's primary among the links.
    fn place(&self, partition: usize) -> Option<usize> {
        let place = usize::from(*self.routes.primaries.get(partition)?);
        (place < self.links.len()).then_some(place)
    }

    /// Where a request goes now.
    pub fn link_for<'a>(&'a self, to: &'a To) -> Option<&'a Arc<Link>> {
        match to {
            To::Server(link) => Some(link),
            To::Object(object) => self.link_of(object),
        }
    }

    /// Where requests about an object go now. The client will have something there.
    pub fn link_of(&self, object: &ObjectId) -> Option<&Arc<Link>> {
        let partition = self.routes.partition(object);
        self.touch(partition);
        self.links.get(self.place(partition)?)
    }

    /// The link to a server in this life.
    pub fn link_to(&self, life: Option<Life>) -> Option<Arc<Link>> {
        self.links
            .iter()
            .find(|link| Some(link.life) == life)
            .cloned()
    }

    /// Whether each partition has a primary.
    pub fn is_whole(&self) -> bool {
        let mut primaries = self.routes.primaries.iter();
        primaries.all(|place| usize::from(*place) < self.links.len())
    }

    /// The servers with something of the client.
    fn used(&self) -> Vec<bool> {
        let mut used = vec![false; self.links.len()];
        for partition in 0..self.routes.primaries.len() {
            if self.has_touched(partition)
                && let Some(place) = self.place(partition)
            {
                used[place] = true;
            }
        }
        used
    }
}

impl Cluster {
    /// # Errors
    ///
    /// [`Error::Protocol`] if the routes are no good.
    pub fn new(routes: Routes) -> Result<Cluster> {
        check(&routes)?;
        Ok(Cluster {
            taking: Mutex::default(),
            table: RwLock::new(Arc::new(Table::new(routes, &[], 0))),
            scouting: AtomicBool::new(false),
        })
    }

    pub fn table(&self) -> Arc<Table> {
        self.table.read().clone()
    }

    /// Nothing changes while this is held.
    pub fn taking(&self) -> MutexGuard<'_, ()> {
        self.taking.lock()
    }
}

fn check(routes: &Routes) -> Result<()> {
    if routes.servers.len() > SERVERS_MAX {
        return Err(Error::Protocol {
            detail: format!(
                "routes of {} servers, where {SERVERS_MAX} are allowed",
                routes.servers.len()
            ),
        });
    }
    Ok(())
}

impl Client {
    /// Takes newer routes up; others are ignored.
    ///
    /// # Errors
    ///
    /// [`Error::Protocol`] if they are of another cluster, or no good.
    pub(crate) fn hear(&self, routes: Routes) -> Result<()> {
        let Net::Cluster(cluster) = &self.net else {
            return Ok(());
        };
        check(&routes)?;
        let taking = cluster.taking();
        let old = cluster.table();
        if routes.cluster != old.routes.cluster {
            return Err(Error::Protocol {
                detail: format!(
                    "the server is of the cluster {:x}, and the client of {:x}",
                    routes.cluster, old.routes.cluster
                ),
            });
        }
        if routes.version <= old.routes.version {
            return Ok(());
        }
        let new = Arc::new(old.next(routes, self.now_ms()));
        let homeless = self.change_table(cluster, &old, &new);
        drop(taking);
        self.fail(
            homeless,
            &unavailable("the cluster", "the server is no member any more".to_owned()),
        );
        self.link_up(&new);
        Ok(())
    }

    /// Replaces the table, tells the servers, and sends what has moved. Gives back the requests to servers that are
    /// no members any more.
    fn change_table(&self, cluster: &Cluster, old: &Table, new: &Arc<Table>) -> Vec<Arc<Slot>> {
        // All at once: who numbers a call has one of these locks, or that of the calls, and finds the version changed.
        let gone: Vec<_> = old.links.iter().filter(|link| is_gone(link, new)).collect();
        let mut closed: Vec<_> = gone.iter().map(|link| link.out()).collect();
        let mut outs: Vec<_> = new.links.iter().map(|link| link.out()).collect();
        let mut calls = self.calls.lock();
        calls.version = new.routes.version;
        *cluster.table.write() = new.clone();
        for (link, out) in gone.iter().zip(&mut closed) {
            link.disconnected(out, State::Closed);
        }
        for (link, out) in new.links.iter().zip(&mut outs) {
            link.append(out, |bytes| {
                // It has a constant size: it can be encoded.
                let _ = frame::write_known_routes(new.routes.version, bytes);
            });
        }
        reroute(&mut calls, new, &mut outs);
        let homeless = calls.take(|entry| match &entry.slot.to {
            To::Server(link) => is_gone(link, new),
            To::Object(_) => false,
        });
        drop(calls);
        for (link, out) in new.links.iter().zip(&mut outs) {
            link.flush(out);
        }
        homeless
    }

    /// Sees to it that there are links to all servers that have, or are to have, something of the client.
    pub(crate) fn link_up(&self, table: &Table) {
        let used = table.used();
        for (link, is_used) in table.links.iter().zip(used) {
            if self.config.owner || is_used {
                self.want(link);
            }
        }
    }
}

fn is_gone(link: &Arc<Link>, table: &Table) -> bool {
    !table.links.iter().any(|member| Arc::ptr_eq(member, link))
}

/// Sends the calls that are elsewhere now, or wait to be sent, where the table says.
fn reroute(calls: &mut Calls, table: &Table, outs: &mut [MutexGuard<'_, Out>]) {
    let now = Instant::now();
    let released = calls.release();
    let holds: Vec<ObjectId> = calls.held_objects();
    let (acked, version) = (calls.acked(), calls.version);
    for entry in calls.entries() {
        let To::Object(object) = entry.slot.to else {
            continue;
        };
        let place = table.place(table.routes.partition(&object));
        let link = place.and_then(|place| table.links.get(place));
        let has_moved = entry.slot.set_link(link);
        let is_held = holds.binary_search(&object).is_ok();
        if has_moved || released.binary_search(&object).is_ok() || is_held {
            entry.strand(now);
        }
        let Some((link, out)) = link.zip(place.and_then(|place| outs.get_mut(place))) else {
            continue;
        };
        if entry.sent == 0 && out.state == State::Up && !is_held {
            entry.send(link, out, acked, version);
        }
    }
}

/// Whether a call was sent before the routes that there are now.
pub(crate) fn is_old(entry: &Entry, version: u64) -> bool {
    entry.sent != 0 && entry.version < version && entry.slot.object().is_some()
}
