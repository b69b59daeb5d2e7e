//! Which cluster a server is part of: the one that its directory says, or that of its seeds, or one that it founds.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crucial_core::frame::peer;
use openraft::{BasicNode, Raft};
use tokio::task::JoinSet;

use crate::config::GroupError;
use crate::group::Shared;
use crate::identity::random;
use crate::store::Group as Types;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// What came of asking the seeds.
#[derive(Default)]
struct Looked {
    /// A cluster, and who is part of it.
    found: Option<(u64, String)>,
    /// What each of the others said.
    tried: Vec<String>,
}

impl Shared {
    /// Finds the cluster that this server is part of, or is to be; or founds it.
    pub async fn find_cluster(self: &Arc<Self>, raft: &Raft<Types>) -> Result<(), GroupError> {
        let own = self.identity.lock().cluster();
        let is_initialized = raft.is_initialized().await.map_err(stopped)?;
        match (own, is_initialized) {
            (0, true) => self.go_on_founding(raft),
            (own, true) => {
                // It knows its cluster, and needs no seed; but one of another cluster is a mistake.
                check(own, self.look().await.found)?;
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
            // Its journal may be lost, and its cluster go on without it.
            return match own {
                0 => self.found(raft).await,
                own => Err(GroupError::Lonely { own }),
            };
        }
        let started = Instant::now();
        loop {
            let looked = self.look().await;
            if let Some((cluster, _)) = check(own, looked.found)? {
                return self.set_cluster(cluster);
            }
            let is_first = self.config.join.first() == Some(&self.config.address);
            if is_first && own == 0 {
                return self.found(raft).await;
            }
            if started.elapsed() > self.config.join_patience {
                return Err(GroupError::Nobody {
                    patience: self.config.join_patience,
                    tried: looked.tried.join("; "),
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Founds a cluster. If it is interrupted it is gone on with at the next start: until it has a name nobody joins.
    async fn found(&self, raft: &Raft<Types>) -> Result<(), GroupError> {
        let me = BTreeMap::from([(self.node.0, BasicNode::new(self.config.address.clone()))]);
        raft.initialize(me).await.map_err(stopped)?;
        self.set_cluster(random())
    }

    fn go_on_founding(&self, raft: &Raft<Types>) -> Result<(), GroupError> {
        let metrics = raft.metrics().borrow().clone();
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        if voters != BTreeSet::from([self.node.0]) {
            let directory = self.config.directory.display();
            return Err(GroupError::Directory(format!(
                "{directory} has the journal of another server, and no identity that goes with it: restore the file `identity`, or move the directory away and let this server join anew"
            )));
        }
        self.set_cluster(random())
    }

    /// Asks the seeds which cluster they are part of, all at once.
    async fn look(self: &Arc<Self>) -> Looked {
        let mut asked = JoinSet::new();
        for address in self.seeds().await {
            if address != self.config.address {
                let links = self.links.clone();
                asked.spawn(async move { (links.who(&address).await, address) });
            }
        }
        let mut looked = Looked::default();
        for (who, address) in asked.join_all().await {
            self.note(&mut looked, who, address);
        }
        looked
    }

    fn note(&self, looked: &mut Looked, who: io::Result<peer::Welcome>, address: String) {
        match who {
            Ok(welcome) if welcome.node == self.node.0 => {}
            Ok(welcome) if welcome.cluster == 0 => {
                looked.tried.push(format!("{address} has found none yet"));
            }
            Ok(welcome) => looked.found = Some((welcome.cluster, address)),
            Err(error) => looked.tried.push(format!("{address}: {error}")),
        }
    }

    /// All addresses of the seeds: a name may stand for several.
    pub async fn seeds(&self) -> Vec<String> {
        let mut addresses = Vec::new();
        for seed in &self.config.join {
            match tokio::net::lookup_host(seed).await {
                Ok(found) => {
                    let found: Vec<_> = found.map(|address| address.to_string()).collect();
                    // One address is called as it is written, as servers know themselves by that.
                    match found.len() {
                        0 | 1 => addresses.push(seed.clone()),
                        _ => addresses.extend(found),
                    }
                }
                // It says why when it is connected to.
                Err(_) => addresses.push(seed.clone()),
            }
        }
        addresses
    }
}

/// What was found, if it is not another cluster than the directory's.
fn check(own: u64, found: Option<(u64, String)>) -> Result<Option<(u64, String)>, GroupError> {
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
