//! The control group's library, with this server as a member.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use crucial_cluster::{Command, Grant, Incarnation, NodeId, PARTITIONS, View};
use crucial_control::{Group, GroupError, Identity, Member, Timing};
use crucial_core::Endpoint;
use crucial_core::frame::peer;

use super::{Cluster, Control};
use crate::StartError;
use crate::service::Service;

/// How a server is part of a cluster.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Where it keeps who it is, and what it must not forget as a voter of the control group.
    pub directory: PathBuf,
    /// Where other servers and clients reach it, `HOST:PORT`; by default the first TCP port that it listens on.
    pub address: Option<String>,
    /// Servers of the cluster that it is to join, `HOST:PORT`; a name may stand for several. Empty: it founds one, or
    /// goes on with the one that its directory knows.
    pub join: Vec<String>,
    /// For how long it tries to join.
    pub patience: Duration,
    /// A server that the control group has not heard of for so long serves nothing any more, and is replaced
    /// after a little more. The same at all servers.
    pub lease: Duration,
}

impl ClusterConfig {
    /// A cluster in a directory, which this server founds.
    pub fn new(directory: PathBuf) -> ClusterConfig {
        ClusterConfig {
            directory,
            address: None,
            join: Vec::new(),
            patience: Duration::from_secs(30),
            lease: Duration::from_secs(1),
        }
    }
}

/// Shortest lease: below it, a server that is busy for a moment is taken for dead.
const LEASE_MIN: Duration = Duration::from_millis(200);

/// What a server is in its cluster, before it has begun.
pub(crate) struct Candidate {
    config: ClusterConfig,
    identity: Identity,
}

impl Candidate {
    /// Reads who this server is.
    pub fn new(config: &ClusterConfig) -> Result<Candidate, StartError> {
        if config.lease < LEASE_MIN {
            return Err(StartError::Config(format!(
                "a lease of {:?} between servers is below {LEASE_MIN:?}: they could not keep it",
                config.lease
            )));
        }
        let identity = Identity::open(&config.directory).map_err(cluster_error)?;
        Ok(Candidate {
            config: config.clone(),
            identity,
        })
    }

    pub fn cluster(&self) -> Cluster {
        Cluster::new(self.identity.node(), self.config.lease.as_millis() as u64)
    }

    /// Makes the server a member; when this returns it is one.
    pub fn join(
        self,
        service: &Arc<Service>,
        endpoints: &[Endpoint],
    ) -> Result<Arc<Group>, StartError> {
        let Some(cluster) = &service.cluster else {
            return Err(StartError::Config("no cluster".to_owned()));
        };
        let address = match &self.config.address {
            Some(address) => address.clone(),
            None => own_address(endpoints)?,
        };
        let lease_ms = self.config.lease.as_millis() as u64;
        let config = crucial_control::Config {
            directory: self.config.directory,
            address,
            join: self.config.join,
            partitions: PARTITIONS,
            timing: Timing::of_lease(lease_ms),
            join_patience: self.config.patience,
        };
        let member = Arc::new(Membership(Arc::downgrade(service)));
        let group = Arc::new(Group::new(config, self.identity, member).map_err(cluster_error)?);
        // A service has one group.
        let _ = cluster.control.set(Arc::new(Voter(group.clone())));
        group.wait_until_member().map_err(cluster_error)?;
        Ok(group)
    }
}

fn cluster_error(error: impl std::fmt::Display) -> StartError {
    StartError::Cluster(error.to_string())
}

/// The first TCP port that a server listens on, if others can reach it there.
fn own_address(endpoints: &[Endpoint]) -> Result<String, StartError> {
    let tcp = endpoints.iter().find_map(|endpoint| match endpoint {
        Endpoint::Tcp { host, .. } => Some((endpoint, host)),
        Endpoint::Unix(_) => None,
    });
    let Some((endpoint, host)) = tcp else {
        return Err(StartError::Config(
            "a server of a cluster listens on a TCP port: --listen HOST:PORT".to_owned(),
        ));
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare
        .parse::<IpAddr>()
        .is_ok_and(|address| address.is_unspecified())
    {
        return Err(StartError::Config(format!(
            "others can not reach a server at {endpoint}: say by --advertise HOST:PORT where they can"
        )));
    }
    Ok(endpoint.to_string())
}

/// The service, as the control group sees it.
struct Membership(Weak<Service>);

impl Membership {
    fn with(&self, act: impl FnOnce(&Service)) {
        if let Some(service) = self.0.upgrade() {
            act(&service);
        }
    }
}

impl Member for Membership {
    fn now_ms(&self) -> u64 {
        self.0.upgrade().map_or(0, |service| service.now_ms())
    }

    fn view(&self, view: Arc<View>) {
        self.with(|service| service.view_came(view));
    }

    fn granted(&self, grant: Grant) {
        self.with(|service| service.lease_granted(grant));
    }

    fn over(&self) {
        tracing::warn!(
            "this server was taken for dead by the others: what it held is theirs, and it begins anew"
        );
        self.with(Service::life_is_over);
    }

    fn begin(&self, incarnation: Incarnation) {
        self.with(|service| service.begin_life(incarnation));
    }

    fn failed(&self, error: GroupError) {
        tracing::error!(%error, "this server can not be part of the cluster any more");
        self.with(|service| service.fail(error.to_string()));
    }
}

/// The control group, as the service sees it.
struct Voter(Arc<Group>);

impl Control for Voter {
    fn handle(
        &self,
        hello: &peer::Hello,
        question: Bytes,
        answer: Box<dyn FnOnce(Vec<u8>) + Send>,
    ) {
        self.0.handle(hello, question, answer);
    }

    fn propose(&self, commands: Vec<Command>) {
        self.0.propose(commands);
    }

    fn cluster(&self) -> u64 {
        self.0.cluster()
    }

    fn voters(&self) -> (Option<NodeId>, Vec<NodeId>) {
        let status = self.0.status();
        (status.leader, status.voters)
    }
}
