//! The state that all threads of a client share.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crucial_local::Clock;
use crucial_object::{Error, Result};
use crucial_proto::frame::Routes;
use parking_lot::{Mutex, MutexGuard, RwLock};

use super::link::Link;
use super::waiter::Waiter;
use super::waker::Waker;
use crate::config::Config;
use crate::session::{Failed, Member, PendingCall, Rerouted, Session, Table, Target};

/// A call, as the thread that waits for it has it.
pub(crate) type Pending = Arc<PendingCall<Waiter>>;

pub(crate) struct Net {
    pub config: Config,
    /// Held for a moment, never while anything is sent.
    session: Mutex<Session<Waiter>>,
    /// The session's table, with the links to its servers: who sends looks up the link before it has the session.
    directory: RwLock<Arc<Directory>>,
    /// Held while newer routes are taken up, or a connection is.
    taking: Mutex<()>,
    /// Whether the directory has more than one server.
    has_several: AtomicBool,
    /// Tasks that wait, for whom the heartbeat thread reads.
    pub tasks: AtomicUsize,
    pub waker: Arc<Waker>,
    /// Whether a thread tries the seeds.
    pub probing: AtomicBool,
    clock: Clock,
    this: Weak<Net>,
}

/// A table, and the link to the server at each of its places.
pub(crate) struct Directory {
    pub table: Arc<Table>,
    pub links: Vec<Arc<Link>>,
}

impl Directory {
    /// `known` are links that there are already.
    fn new(table: Arc<Table>, known: &[Arc<Link>]) -> Directory {
        let members = table.members().iter().enumerate();
        let links = members.map(|(place, member)| {
            let known = known.iter().find(|link| link.member == *member);
            let new = || Link::new(*member, table.address(place));
            known.cloned().unwrap_or_else(new)
        });
        Directory {
            links: links.collect(),
            table,
        }
    }

    pub fn link(&self, member: Member) -> Option<&Arc<Link>> {
        self.links.iter().find(|link| link.member == member)
    }
}

/// Where a request goes, by the routes of a version.
pub(crate) struct Way {
    pub version: u64,
    pub place: Option<usize>,
    pub link: Option<Arc<Link>>,
}

impl Net {
    pub fn new(config: Config, session: Session<Waiter>) -> Result<Arc<Net>> {
        let directory = Directory::new(session.table().clone(), &[]);
        let waker = Arc::new(Waker::new()?);
        Ok(Arc::new_cyclic(|this| Net {
            config,
            session: Mutex::new(session),
            has_several: AtomicBool::new(directory.links.len() > 1),
            directory: RwLock::new(Arc::new(directory)),
            taking: Mutex::default(),
            tasks: AtomicUsize::new(0),
            waker,
            probing: AtomicBool::new(false),
            clock: Clock::new(),
            this: this.clone(),
        }))
    }

    pub fn weak(&self) -> Weak<Net> {
        self.this.clone()
    }

    pub fn session(&self) -> MutexGuard<'_, Session<Waiter>> {
        self.session.lock()
    }

    pub fn directory(&self) -> Arc<Directory> {
        self.directory.read().clone()
    }

    pub fn routes(&self) -> Routes {
        self.directory().table.routes().clone()
    }

    /// Nothing changes in table and connections while this is held.
    pub fn taking(&self) -> MutexGuard<'_, ()> {
        self.taking.lock()
    }

    /// Whether there is more than one server.
    pub fn has_several(&self) -> bool {
        self.has_several.load(Ordering::Relaxed)
    }

    /// The client's clock.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// When the client's clock will say so.
    pub fn instant(&self, ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(ms.saturating_sub(self.now_ms()))
    }

    /// Where a request goes now.
    pub fn way(&self, target: &Target) -> Way {
        let directory = self.directory.read();
        let place = directory.table.place_for(target);
        Way {
            version: directory.table.version(),
            place,
            link: place.map(|place| directory.links[place].clone()),
        }
    }

    /// The link to a server, while it is a member.
    pub fn link(&self, member: Member) -> Option<Arc<Link>> {
        self.directory.read().link(member).cloned()
    }

    /// Goes by another table: `take` has the session take it. All links are locked meanwhile, so that no frame is
    /// numbered or written by the older table behind the servers' being told of the newer. The caller holds
    /// [`taking`](Net::taking).
    pub fn replace_directory(
        &self,
        table: Arc<Table>,
        take: impl FnOnce(&mut Session<Waiter>) -> Rerouted<Waiter>,
    ) -> Failed<Waiter> {
        let old = self.directory();
        let new = Arc::new(Directory::new(table, &old.links));
        let is_gone = |link: &&Arc<Link>| new.link(link.member).is_none();
        let gone: Vec<_> = old.links.iter().filter(is_gone).collect();
        let mut closed: Vec<_> = gone.iter().map(|link| link.out()).collect();
        let mut outs: Vec<_> = new.links.iter().map(|link| link.out()).collect();
        let mut session = self.session();
        let rerouted = take(&mut session);
        *self.directory.write() = new.clone();
        self.has_several
            .store(new.links.len() > 1, Ordering::Relaxed);
        for (call, member) in rerouted.moved {
            call.waiter.move_to(member);
        }
        drop(session);
        for (link, out) in gone.iter().zip(&mut closed) {
            link.disconnected(out);
        }
        for ((link, out), frames) in new.links.iter().zip(&mut outs).zip(&rerouted.frames) {
            link.write_with(out, |unsent| unsent.extend_from_slice(frames));
        }
        rerouted.failed
    }

    /// Tells those that wait for these calls.
    pub fn fail(&self, failed: Failed<Waiter>) {
        for call in failed.calls {
            call.waiter.complete(Err(failed.error.clone()), &self.tasks);
        }
    }

    pub fn has_ended(&self) -> bool {
        self.session().has_ended()
    }

    /// No call succeeds from here on, not those in flight either.
    pub fn end_with(&self, error: &Error) {
        let failed = {
            let mut session = self.session();
            session.end(error.clone());
            session.fail_all(error.clone())
        };
        self.waker.stop();
        self.fail(failed);
        self.cut_all();
    }

    /// Cuts all connections.
    pub fn cut_all(&self) {
        self.directory().links.iter().for_each(|link| link.cut());
    }

    /// Whether tasks wait, for whom nobody reads but the heartbeat thread.
    pub fn has_tasks(&self) -> bool {
        self.tasks.load(Ordering::Acquire) > 0
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.waker.stop();
        for link in &self.directory().links {
            link.disconnected(&mut link.out());
        }
    }
}
