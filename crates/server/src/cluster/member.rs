//! What the control group decides: views, leases, lives. It comes on the group's own thread, which must not be held up,
//! and is carried out by the cluster's.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crucial_cluster::{Grant, Incarnation, Lease, View};
use crucial_core::frame::{self, RouteServer, Routes};

use super::act::drop_object;
use super::{Cluster, modules};
use crate::connection::Connection;
use crate::service::{Effects, Service};
use crate::slot::Event;

/// How often what is to be repeated is looked at.
const TICK: Duration = Duration::from_millis(20);

/// What clients know of a view, as the frame that tells them.
pub(super) struct RouteFrame {
    pub routes: Routes,
    frame: Vec<u8>,
}

impl RouteFrame {
    pub fn of(view: &View, cluster: u64) -> RouteFrame {
        let servers = view.members.iter().map(|(node, member)| RouteServer {
            node: node.0,
            incarnation: member.incarnation.0,
            address: member.address.clone(),
        });
        let place = |node| view.members.keys().position(|member| *member == node);
        let primaries = view.partitions().map(|id| {
            let primary = view.primary(id).and_then(place);
            primary.map_or(Routes::NONE, |place| place as u16)
        });
        let routes = Routes {
            cluster,
            version: view.version.0,
            servers: servers.collect(),
            primaries: primaries.collect(),
        };
        let mut bytes = Vec::new();
        if let Err(error) = frame::write_routes(&routes, &mut bytes) {
            tracing::error!(%error, "routes can not be encoded");
        }
        RouteFrame {
            routes,
            frame: bytes,
        }
    }
}

impl Cluster {
    /// For the welcome of a client; `None`: this server is no member yet.
    pub fn routes(&self) -> Option<Routes> {
        let has_me = self.view.read().has(self.me, self.incarnation());
        has_me.then(|| self.routes.read().routes.clone())
    }

    /// Tells a client the newest routes, unless it was told.
    pub fn tell(&self, connection: &Connection) {
        let routes = self.routes.read().clone();
        if connection.tells_routes(routes.routes.version) {
            connection.append(|out| {
                out.extend_from_slice(&routes.frame);
                Ok(())
            });
        }
    }
}

impl Service {
    /// A view came.
    pub fn view_came(&self, view: Arc<View>) {
        let Some(cluster) = &self.cluster else { return };
        cluster.desk.papers.lock().view = Some(view);
        cluster.wake();
    }

    /// Waits until this server knows a view in which it is a member, and has a lease.
    #[cfg(feature = "cluster")]
    pub fn await_view(&self) {
        let Some(cluster) = &self.cluster else { return };
        let serves = || cluster.routes().is_some() && cluster.has_lease(self.now_ms());
        while !self.is_stopping() && !serves() {
            // What it waits for comes on two other threads; nobody is in a hurry here.
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// A lease came.
    pub fn lease_granted(&self, grant: Grant) {
        let Some(cluster) = &self.cluster else { return };
        {
            let mut lease = cluster.lease.lock();
            lease.renew(grant, cluster.lease_ms);
            cluster.lease_view.store(lease.view().0, Ordering::Release);
            cluster
                .lease_until_ms
                .store(lease.until_ms(), Ordering::Release);
        }
        let is_waited_for = cluster.waiting.load(Ordering::Relaxed) > 0;
        if is_waited_for || !cluster.withheld.lock().is_empty() {
            cluster.try_again();
        }
    }

    /// This server was taken for dead. From here on it serves nothing.
    pub fn life_is_over(&self) {
        let Some(cluster) = &self.cluster else { return };
        let mut lease = cluster.lease.lock();
        *lease = Lease::default();
        cluster.lease_until_ms.store(0, Ordering::Release);
    }

    /// A new life of this server begins: what it had in the last one is nobody's.
    pub fn begin_life(&self, incarnation: Incarnation) {
        let Some(cluster) = &self.cluster else { return };
        self.life_is_over();
        cluster.incarnation.store(incarnation.0, Ordering::Release);
        cluster.peers.close();
        for id in cluster.ids() {
            let share = cluster.new_share(id);
            *cluster.share(id) = share;
        }
        cluster.waiting.store(0, Ordering::Relaxed);
        cluster.withheld.lock().clear();
        self.sessions.forget_all();
        let mut effects = Effects::new(self);
        for slot in self.table.all() {
            self.offer(slot.id, Event::Look(Box::new(drop_object)), &mut effects);
        }
        self.post(&mut effects);
    }

    fn take_view(&self, cluster: &Cluster, view: Arc<View>, effects: &mut Effects<'_>) {
        if view.version <= cluster.version() {
            return;
        }
        cluster.modules.view_came(&view, &cluster.view());
        cluster.peers.update(&view, cluster.me);
        let now_ms = self.now_ms();
        for id in cluster.ids() {
            let mut actions = Vec::new();
            let mut share = cluster.share(id);
            share.partition.on_view(&view, now_ms, &mut actions);
            self.act(cluster, &mut share, actions, effects);
        }
        *cluster.routes.write() = Arc::new(RouteFrame::of(&view, cluster.cluster()));
        let version = view.version.0;
        *cluster.view.write() = view;
        cluster.version.store(version, Ordering::Release);
        for connection in self.sessions.connections() {
            cluster.tell(&connection);
            effects.mark(&connection);
        }
        self.lease_came(cluster, effects);
    }

    fn tick(&self, cluster: &Cluster, effects: &mut Effects<'_>) {
        let view = cluster.view();
        for id in cluster.ids() {
            let mut share = cluster.share(id);
            if share.partition.is_busy(view.version) {
                let mut actions = Vec::new();
                share.partition.tick(&view, self.now_ms(), &mut actions);
                self.act(cluster, &mut share, actions, effects);
            }
        }
    }
}

/// Starts the cluster's threads: one for views, one for the modules in them.
pub(crate) fn start(service: &Arc<Service>) -> io::Result<[JoinHandle<()>; 2]> {
    let spawn = |name: &str, run: fn(&Arc<Service>, &Cluster)| {
        let service = service.clone();
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(move || {
            if let Some(cluster) = &service.cluster {
                run(&service, cluster);
            }
        })
    };
    Ok([
        spawn("crucial-cluster", run)?,
        spawn("crucial-modules", |service, cluster| {
            modules::run(service, cluster);
        })?,
    ])
}

fn run(service: &Arc<Service>, cluster: &Cluster) {
    loop {
        let (view, try_again) = {
            let mut papers = cluster.desk.papers.lock();
            if papers.view.is_none() && !papers.try_again && !papers.stopped {
                cluster.desk.changed.wait_for(&mut papers, TICK);
            }
            if papers.stopped {
                return;
            }
            (papers.view.take(), std::mem::take(&mut papers.try_again))
        };
        let mut effects = Effects::new(service);
        if let Some(view) = view {
            service.take_view(cluster, view, &mut effects);
        }
        if try_again {
            service.lease_came(cluster, &mut effects);
        }
        service.tick(cluster, &mut effects);
        service.post(&mut effects);
        cluster.peers.dial(service, cluster);
    }
}
