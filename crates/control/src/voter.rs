//! Implements the server's interface to the control group: membership, the modules' bytes on disk, and leaving.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crucial_node::catalog::StoreError;
use crucial_node::control_group::{ControlGroup, Respond};
use crucial_node::replication::{Command, Grant, Incarnation, NodeId, PARTITIONS, View};
use crucial_node::{ControlInfo, ModuleId, ModuleStore, control_group};
use crucial_proto::Endpoint;
use crucial_proto::frame::peer;
use parking_lot::Mutex;

use crate::blobs::Blobs;
use crate::config::{Config, GroupError, Member, Timing};
use crate::group::Group;
use crate::identity::Identity;
use crate::journal::FileSync;

/// Interval at which a leaving server checks whether all other servers leave, too.
const LEAVE_LOOK: Duration = Duration::from_millis(50);

/// Shortest lease: with a shorter one, a server that is busy for a moment would be expired.
const LEASE_MIN: Duration = Duration::from_millis(200);

/// The configuration of a server's membership in a cluster.
#[derive(Clone, Debug)]
pub struct VoterConfig {
    /// The directory of the server's identity, its journal as a voter, and modules.
    pub directory: PathBuf,
    /// The address at which other servers and clients reach this server, `HOST:PORT`; by default the first TCP endpoint
    /// that the server listens on.
    pub address: Option<String>,
    /// Servers of the cluster to join, `HOST:PORT`; a name may have several addresses. If the list is empty, the server
    /// founds a cluster, or continues in the cluster of its directory.
    pub join: Vec<String>,
    /// How many servers the cluster has when it is founded; `None`: as many as `join` names. The first server of `join`
    /// founds a cluster only if most of this many servers, with itself, say that they have none.
    pub expect: Option<usize>,
    /// How long the server tries to join before it gives up.
    pub patience: Duration,
    /// A server that got no response to its heartbeats for this long stops serving, and is replaced a little later. All
    /// servers must have the same value.
    pub lease: Duration,
}

impl VoterConfig {
    /// Returns the configuration of a server that founds a cluster with this directory.
    pub fn new(directory: PathBuf) -> VoterConfig {
        VoterConfig {
            directory,
            address: None,
            join: Vec::new(),
            expect: None,
            patience: Duration::from_secs(30),
            lease: Duration::from_secs(1),
        }
    }
}

/// A server's part in the control group, before and after it has joined.
pub struct Voter {
    config: VoterConfig,
    node: NodeId,
    /// As the directory says at the start; 0: none.
    cluster: u64,
    modules: Arc<Blobs>,
    /// `None` after the start: the group has it.
    identity: Mutex<Option<Identity>>,
    group: OnceLock<Arc<Group>>,
}

impl Voter {
    /// Reads the server's identity.
    ///
    /// # Errors
    ///
    /// The reason, if the directory cannot be used or the lease is too short.
    pub fn open(config: VoterConfig) -> Result<Voter, String> {
        if config.lease < LEASE_MIN {
            return Err(format!(
                "a lease of {:?} between servers is too short: a lease has at least {LEASE_MIN:?}",
                config.lease
            ));
        }
        let identity = Identity::open(&config.directory).map_err(|error| error.to_string())?;
        let modules = Blobs::open(&config.directory).map_err(|error| error.to_string())?;
        Ok(Voter {
            node: identity.node(),
            cluster: identity.cluster(),
            modules: Arc::new(modules),
            identity: Mutex::new(Some(identity)),
            group: OnceLock::new(),
            config,
        })
    }

    fn begin(
        &self,
        member: Arc<dyn control_group::Member>,
        endpoints: &[Endpoint],
    ) -> Result<Arc<Group>, String> {
        let address = match &self.config.address {
            Some(address) => address.clone(),
            None => own_address(endpoints)?,
        };
        let identity = self.identity.lock().take();
        let identity = identity.ok_or("the server has been started before")?;
        let config = Config {
            directory: self.config.directory.clone(),
            address,
            join: self.config.join.clone(),
            expect: self.config.expect,
            partitions: PARTITIONS,
            timing: Timing::of_lease(self.config.lease.as_millis() as u64),
            join_patience: self.config.patience,
            sync: FileSync::default(),
        };
        let adapter = Arc::new(Adapter {
            member,
            group: OnceLock::new(),
        });
        let group = Group::new(config, identity, adapter.clone());
        let group = Arc::new(group.map_err(|error| error.to_string())?);
        // Set here only, so that setting cannot fail.
        let _ = adapter.group.set(Arc::downgrade(&group));
        Ok(group)
    }
}

impl ControlGroup for Voter {
    fn node(&self) -> NodeId {
        self.node
    }

    fn lease_ms(&self) -> u64 {
        self.config.lease.as_millis() as u64
    }

    fn cluster(&self) -> u64 {
        self.cluster
    }

    fn is_alone(&self) -> bool {
        false
    }

    fn start(
        &self,
        member: Arc<dyn control_group::Member>,
        endpoints: &[Endpoint],
    ) -> Result<(), String> {
        let group = self.begin(member, endpoints)?;
        // `begin` fails at a second start, so that setting cannot fail.
        let _ = self.group.set(group.clone());
        group.wait_until_member().map_err(|error| error.to_string())
    }

    fn on_request(&self, from: &peer::Hello, request: Bytes, respond: Respond) {
        if let Some(group) = self.group.get() {
            group.on_request(from, request, respond);
        }
    }

    fn propose(&self, command: Command) {
        if let Some(group) = self.group.get() {
            group.propose(vec![command]);
        }
    }

    fn modules(&self) -> Arc<dyn ModuleStore> {
        Arc::new(Modules(self.modules.clone()))
    }

    fn info(&self) -> ControlInfo {
        let Some(group) = self.group.get() else {
            return ControlInfo::default();
        };
        let status = group.status();
        ControlInfo {
            leader: status.leader,
            voters: status.voters,
        }
    }

    fn leave(&self, patience: Duration) -> bool {
        let Some(group) = self.group.get() else {
            return true;
        };
        if group.view().members.keys().all(|node| *node == self.node) {
            return true;
        }
        group.leave();
        let started = Instant::now();
        let mut alone_since = None;
        while started.elapsed() < patience && group.is_part() {
            if group.wait_until_left(LEAVE_LOOK) {
                return true;
            }
            let view = group.view();
            if view.staying().next().is_none() {
                // All servers leave. The others may need this server to learn that.
                std::thread::sleep(self.config.lease / 2);
                return true;
            }
            let is_alone = view.staying().all(|node| node == self.node);
            let has_leader = group.status().leader.is_some();
            let since = *alone_since.get_or_insert_with(Instant::now);
            if !is_alone || has_leader {
                alone_since = None;
            } else if since.elapsed() > self.config.lease {
                // The others were leaving, and are gone before they could decide that this one leaves, too. Nobody is
                // left who could take what it holds.
                return true;
            }
        }
        group.wait_until_left(Duration::ZERO)
    }

    fn stop(&self) {
        if let Some(group) = self.group.get() {
            group.stop();
        }
    }
}

/// The first TCP endpoint that a server listens on, if other servers can reach it.
fn own_address(endpoints: &[Endpoint]) -> Result<String, String> {
    let tcp = endpoints.iter().find_map(|endpoint| match endpoint {
        Endpoint::Tcp { host, .. } => Some((endpoint, host)),
        Endpoint::Unix(_) => None,
    });
    let Some((endpoint, host)) = tcp else {
        return Err(
            "a server of a cluster must listen on a TCP port: --listen HOST:PORT".to_owned(),
        );
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare
        .parse::<IpAddr>()
        .is_ok_and(|address| address.is_unspecified())
    {
        return Err(format!(
            "other servers cannot reach {endpoint}: set an address that they can reach with --advertise HOST:PORT"
        ));
    }
    Ok(endpoint.to_string())
}

/// Forwards the group's decisions to the server.
struct Adapter {
    member: Arc<dyn control_group::Member>,
    group: OnceLock<Weak<Group>>,
}

impl Member for Adapter {
    fn on_cluster(&self, cluster: u64) {
        self.member.on_cluster(cluster);
    }

    fn now_ms(&self) -> u64 {
        self.member.now()
    }

    fn on_view(&self, view: Arc<View>) {
        let group = self.group.get().and_then(Weak::upgrade);
        let cluster = group.map_or(0, |group| group.cluster());
        self.member.on_view(cluster, view);
    }

    fn on_grant(&self, grant: Grant) {
        self.member.on_lease(grant);
    }

    fn on_evicted(&self) {
        self.member.on_evicted();
    }

    fn on_begin(&self, incarnation: Incarnation) {
        self.member.begin(incarnation);
    }

    fn on_failure(&self, error: GroupError) {
        self.member.on_failure(error.to_string());
    }
}

/// The modules on disk.
struct Modules(Arc<Blobs>);

impl ModuleStore for Modules {
    fn load(&self, id: &ModuleId) -> Option<Bytes> {
        self.0.load(id).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read a module from disk; fetching it again");
            None
        })
    }

    fn store(&self, id: &ModuleId, bytes: &Bytes) -> Result<(), StoreError> {
        self.0.store(id, bytes).map_err(StoreError::from)
    }

    fn remove(&self, id: &ModuleId) {
        if let Err(error) = self.0.remove(id) {
            tracing::warn!(%error, "cannot delete a module's file");
        }
    }

    fn prune(&self, keep: &[ModuleId]) {
        if let Err(error) = self.0.prune(keep) {
            tracing::warn!(%error, "cannot delete the files of unused modules");
        }
    }
}
