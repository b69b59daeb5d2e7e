//! This server as a member of its cluster: its incarnation, the newest view, its lease, and what clients are told of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crucial_proto::frame::{self, Routes};

use crate::ids::Millis;
use crate::partitions::{Reply, Standing};
use crate::replication::{
    Grant, Incarnation, Lease, Mutant, NodeId, RoutesVersion, View, ViewVersion,
};
use crate::sync::{AtomicBool, AtomicU64, Mutex, RwLock};

pub(crate) struct Membership {
    pub me: NodeId,
    incarnation: AtomicU64,
    lease_ms: Millis,
    /// Which cluster; 0: not known yet.
    cluster: AtomicU64,
    /// The newest view that all partitions have taken up.
    view: RwLock<Arc<View>>,
    /// Its version.
    version: AtomicU64,
    /// The version of its routes.
    routes_version: AtomicU64,
    /// The part of the view that concerns clients.
    routes: RwLock<Arc<RouteFrame>>,
    lease: Mutex<Lease>,
    /// From `lease`, to be seen without its lock.
    lease_until: AtomicU64,
    lease_view: AtomicU64,
    /// Replies that wait for a lease.
    withheld: Mutex<Vec<Reply>>,
    /// Whether sessions have pings that wait for a lease.
    has_held_pings: AtomicBool,
}

/// The part of a view that clients know, as the frame that tells them.
pub(crate) struct RouteFrame {
    pub routes: Routes,
    pub frame: Vec<u8>,
}

impl RouteFrame {
    fn of(view: &View, cluster: u64) -> RouteFrame {
        let routes = view.routes(cluster);
        let mut bytes = Vec::new();
        if let Err(error) = frame::write_routes(&routes, &mut bytes) {
            tracing::error!(%error, "routes cannot be encoded");
        }
        RouteFrame {
            routes,
            frame: bytes,
        }
    }
}

impl Membership {
    pub fn new(me: NodeId, partitions: usize, lease_ms: Millis) -> Membership {
        let view = Arc::new(View::new(partitions));
        Membership {
            me,
            incarnation: AtomicU64::new(0),
            lease_ms,
            cluster: AtomicU64::new(0),
            routes: RwLock::new(Arc::new(RouteFrame::of(&view, 0))),
            view: RwLock::new(view),
            version: AtomicU64::new(0),
            routes_version: AtomicU64::new(0),
            lease: Mutex::default(),
            lease_until: AtomicU64::new(0),
            lease_view: AtomicU64::new(u64::MAX),
            withheld: Mutex::default(),
            has_held_pings: AtomicBool::new(false),
        }
    }

    pub fn incarnation(&self) -> Incarnation {
        Incarnation(self.incarnation.load(Ordering::Acquire))
    }

    /// For how long a lease of this server lasts.
    pub fn lease_ms(&self) -> Millis {
        self.lease_ms
    }

    pub fn cluster(&self) -> u64 {
        self.cluster.load(Ordering::Acquire)
    }

    pub fn set_cluster(&self, cluster: u64) {
        self.cluster.store(cluster, Ordering::Release);
    }

    pub fn view(&self) -> Arc<View> {
        self.view.read().clone()
    }

    /// The version of the newest view that all partitions have taken up.
    pub fn version(&self) -> ViewVersion {
        ViewVersion(self.version.load(Ordering::Acquire))
    }

    /// The version of the routes of that view.
    pub fn routes_version(&self) -> RoutesVersion {
        RoutesVersion(self.routes_version.load(Ordering::Acquire))
    }

    /// All partitions have taken a view up.
    pub fn set_view(&self, view: Arc<View>) {
        let (version, routes_version) = (view.version.0, view.routes_version.0);
        let known = self.routes();
        let is_known =
            (known.routes.cluster, known.routes.version) == (self.cluster(), routes_version);
        if !is_known {
            *self.routes.write() = Arc::new(RouteFrame::of(&view, self.cluster()));
        }
        *self.view.write() = view;
        self.version.store(version, Ordering::Release);
        self.routes_version.store(routes_version, Ordering::Release);
    }

    pub fn routes(&self) -> Arc<RouteFrame> {
        self.routes.read().clone()
    }

    /// Whether the newest view has this incarnation of the server.
    pub fn is_member(&self) -> bool {
        self.view.read().has(self.me, self.incarnation())
    }

    /// Whether this server may serve now.
    pub fn has_lease(&self, now: Millis) -> bool {
        let is_in_time =
            now < self.lease_until.load(Ordering::Acquire) || Mutant::NoLeaseCheck.is_planted();
        is_in_time
            && self.version.load(Ordering::Acquire) >= self.lease_view.load(Ordering::Acquire)
    }

    pub fn standing(&self, now: Millis) -> Standing {
        Standing {
            has_lease: self.has_lease(now),
        }
    }

    /// A lease came.
    pub fn renew(&self, grant: Grant) {
        let mut lease = self.lease.lock();
        lease.renew(grant, self.lease_ms);
        self.lease_view.store(lease.view().0, Ordering::Release);
        self.lease_until.store(lease.until_ms(), Ordering::Release);
    }

    /// This server was taken for dead. From now on it serves nothing.
    pub fn end_lease(&self) {
        let mut lease = self.lease.lock();
        *lease = Lease::default();
        self.lease_until.store(0, Ordering::Release);
    }

    /// A new incarnation begins, which has nothing of the last one.
    pub fn begin(&self, incarnation: Incarnation) {
        self.end_lease();
        self.incarnation.store(incarnation.0, Ordering::Release);
        self.withheld.lock().clear();
    }

    /// A reply waits for a lease.
    pub fn withhold(&self, reply: Reply) {
        self.withheld.lock().push(reply);
    }

    /// A ping waits for a lease.
    pub fn note_held_ping(&self) {
        self.has_held_pings.store(true, Ordering::Release);
    }

    /// Whether pings have waited for a lease.
    pub fn take_held_pings(&self) -> bool {
        self.has_held_pings.load(Ordering::Acquire)
            && self.has_held_pings.swap(false, Ordering::AcqRel)
    }

    /// The replies that waited for a lease.
    pub fn take_withheld(&self) -> Vec<Reply> {
        std::mem::take(&mut *self.withheld.lock())
    }
}
