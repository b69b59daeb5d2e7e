//! Determines a server's cluster: the cluster of its directory, the cluster of its seeds, or a new one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crucial_proto::frame::peer;
use openraft::{BasicNode, Raft};
use tokio::task::JoinSet;

use crate::config::GroupError;
use crate::identity::random;
use crate::shared::Shared;
use crate::store::Group as Types;

/// Pause between two probes of the seeds.
const PROBE_PAUSE: Duration = Duration::from_millis(100);

/// The result of probing the seeds.
#[derive(Default)]
struct ProbeResult {
    /// A cluster, and the address of a member.
    found: Option<(u64, String)>,
    /// How many other servers have no cluster.
    without: usize,
    /// The failures of the other seeds.
    tried: Vec<String>,
}

impl Shared {
    /// Finds the cluster that this server belongs to or joins, or founds a cluster.
    pub async fn find_cluster(self: &Arc<Self>, raft: &Raft<Types>) -> Result<(), GroupError> {
        let own = self.identity.lock().cluster();
        if self.rescued.is_some() {
            return self.set_cluster(own);
        }
        let is_initialized = raft.is_initialized().await.map_err(stopped)?;
        match (own, is_initialized) {
            (0, true) => self.resume_founding(raft),
            (own, true) => {
                // The server knows its cluster and needs no seed, but a seed of another cluster is a mistake.
                check_same_cluster(own, self.probe_seeds().await.found)?;
                self.set_cluster(own)
            }
            (_, false) => self.find_or_found(own, raft).await,
        }
    }

    async fn find_or_found(
        self: &Arc<Self>,
        own: u64,
        raft: &Raft<Types>,
    ) -> Result<(), GroupError> {
        if self.config.join.is_empty() {
            // With a cluster but without a journal, the journal was lost. The cluster may still exist without this
            // server, so that founding it again would make a second one.
            return match own {
                0 => self.found(raft).await,
                own => Err(GroupError::Lonely { own }),
            };
        }
        let started = Instant::now();
        loop {
            let ProbeResult {
                found,
                without,
                mut tried,
            } = self.probe_seeds().await;
            if let Some((cluster, _)) = check_same_cluster(own, found)? {
                return self.set_cluster(cluster);
            }
            // Most of the servers say that there is no cluster: otherwise this one may just have lost its disk, while the
            // others live on and cannot be reached.
            let is_first = self.is_first().await;
            let expected = self.config.expect.unwrap_or(self.config.join.len());
            if is_first && own == 0 && 2 * (without + 1) > expected {
                return self.found(raft).await;
            }
            if started.elapsed() > self.config.join_patience {
                if is_first {
                    tried.push(format!(
                        "this server founds a cluster when most of its {expected} servers are there"
                    ));
                }
                return Err(GroupError::Nobody {
                    patience: self.config.join_patience,
                    tried: tried.join("; "),
                });
            }
            tokio::time::sleep(PROBE_PAUSE).await;
        }
    }

    /// Whether this server is the first seed, by whichever names: of a name with several addresses the lowest counts.
    async fn is_first(&self) -> bool {
        let Some(first) = self.config.join.first() else {
            return false;
        };
        if *first == self.config.address {
            return true;
        }
        let (Ok(first), Ok(own)) = (
            tokio::net::lookup_host(first).await,
            tokio::net::lookup_host(&self.config.address).await,
        ) else {
            return false;
        };
        let own: Vec<_> = own.collect();
        first.min().is_some_and(|first| own.contains(&first))
    }

    /// Founds a cluster. An interrupted founding is resumed at the next start: no server can join before the cluster
    /// has an id.
    async fn found(&self, raft: &Raft<Types>) -> Result<(), GroupError> {
        let me = BTreeMap::from([(self.node.0, BasicNode::new(self.config.address.clone()))]);
        raft.initialize(me).await.map_err(stopped)?;
        self.store.all_written().await.map_err(stopped)?;
        self.set_cluster(random())
    }

    fn resume_founding(&self, raft: &Raft<Types>) -> Result<(), GroupError> {
        let metrics = raft.metrics().borrow().clone();
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        if voters != BTreeSet::from([self.node.0]) {
            let directory = self.config.directory.display();
            return Err(GroupError::Directory(format!(
                "the journal in {directory} belongs to another server than the identity: restore the file `identity`, \
                 or move the directory away and let this server join again"
            )));
        }
        self.set_cluster(random())
    }

    /// Asks all seeds in parallel for their cluster.
    async fn probe_seeds(self: &Arc<Self>) -> ProbeResult {
        let mut probes = JoinSet::new();
        for address in self.seeds().await {
            if address != self.config.address {
                let links = self.links.clone();
                probes.spawn(async move { (links.identify(&address).await, address) });
            }
        }
        let mut probed = ProbeResult::default();
        for (welcome, address) in probes.join_all().await {
            self.record_probe(&mut probed, welcome, address);
        }
        probed
    }

    fn record_probe(
        &self,
        probed: &mut ProbeResult,
        welcome: io::Result<peer::Welcome>,
        address: String,
    ) {
        match welcome {
            Ok(welcome) if welcome.node == self.node.0 => {}
            Ok(welcome) if welcome.cluster == 0 => {
                probed.without += 1;
                probed.tried.push(format!("{address} has no cluster yet"));
            }
            Ok(welcome) => probed.found = Some((welcome.cluster, address)),
            Err(error) => {
                let reason = crucial_local::system_reason(&error);
                probed.tried.push(format!("{address}: {reason}"));
            }
        }
    }

    /// The addresses of all seeds. A name may resolve to several.
    pub async fn seeds(&self) -> Vec<String> {
        let mut addresses = Vec::new();
        for seed in &self.config.join {
            match tokio::net::lookup_host(seed).await {
                Ok(found) => {
                    let found: Vec<_> = found.map(|address| address.to_string()).collect();
                    // A name with one address is used as written, so that it can be compared with a server's own
                    // address.
                    match found.len() {
                        0 | 1 => addresses.push(seed.clone()),
                        _ => addresses.extend(found),
                    }
                }
                // The failure to resolve the name is reported when a connection is tried.
                Err(_) => addresses.push(seed.clone()),
            }
        }
        addresses
    }
}

/// Returns what was found, unless it is another cluster than the directory's.
fn check_same_cluster(
    own: u64,
    found: Option<(u64, String)>,
) -> Result<Option<(u64, String)>, GroupError> {
    match found {
        Some((theirs, address)) if own != 0 && theirs != own => Err(GroupError::AnotherCluster {
            own,
            theirs,
            address,
        }),
        found => Ok(found),
    }
}

fn stopped(error: impl std::fmt::Display) -> GroupError {
    GroupError::Stopped(error.to_string())
}
