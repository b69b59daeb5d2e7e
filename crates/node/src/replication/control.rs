//! The state machine of the control group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::catalog::mutant::CatalogMutant;
use crate::ids::REPLICAS_MAX;
use crate::replication::placement::wanted;
use crate::replication::{
    Assignment, Configuration, Epoch, Incarnation, KeptModule, Member, NodeId, PartitionId, View,
    ViewVersion,
};

/// Limit on the bytes of all uploaded modules of a cluster. Each server has them in memory and on disk.
pub const MODULES_BYTES_MAX: u64 = 256 << 20;

/// Limit on the bytes of one uploaded module.
pub const MODULE_BYTES_MAX: u64 = 64 << 20;

/// Most servers of a cluster.
pub const MEMBERS_MAX: usize = 1_000;

/// Longest address of a server, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 512;

/// Most assignments of a partition, with those that are on their way.
const ASSIGNMENTS_MAX: usize = 4 * REPLICAS_MAX as usize;

/// How much higher than the last one the next incarnation of a server may be. Each start and each eviction adds one.
const INCARNATION_STEP_MAX: u64 = 1 << 32;

/// How much newer than its last one the first view of a rescued cluster is.
const RESCUE_VIEW_STEP: u64 = 1 << 32;

/// A command that changes the view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A server starts.
    Join {
        /// The server.
        node: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
        /// Where it is reached.
        address: String,
        /// The lease that it goes by, in milliseconds.
        lease_ms: u64,
    },
    /// A server is to stop: what it holds goes elsewhere first.
    Leave {
        /// The server.
        node: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
    },
    /// The lease of a server has ended, on whatever clock.
    Expire {
        /// The server.
        node: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
    },
    /// A server that was expired again and again has been a member for long enough: it gets partitions like any other.
    EndDamping {
        /// The server.
        node: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
    },
    /// A server was not expired for long: its expiries are forgotten.
    ForgetExpiries {
        /// The server.
        node: NodeId,
        /// The view that the leader has seen. The command has no effect if the server was expired since then.
        seen: ViewVersion,
    },
    /// The primary of a partition gives it these assignments.
    Reconfigure {
        /// Which.
        partition: PartitionId,
        /// The configuration that this is to follow.
        epoch: Epoch,
        /// The new one, with the incarnations of those that have an assignment in it.
        assignments: Vec<(Assignment, Incarnation)>,
    },
    /// Persistent objects that are gone with all of their replicas may be forgotten: their names are free.
    Forget {
        /// The view that whoever says so has seen. What is gone since then is not forgotten.
        seen: ViewVersion,
    },
    /// Adds a module to the view, or moves it to the last place. All members have its bytes and its code, and have
    /// found that their objects can move to its types.
    Keep {
        /// The SHA-256 of the module's bytes.
        id: [u8; 32],
        /// The number of its bytes.
        size: u64,
        /// Whether its types may replace those of earlier modules.
        replace: bool,
        /// The view whose members and modules this decision rests on. The command has no effect if a server has joined
        /// since then, or the modules have changed.
        seen: ViewVersion,
        /// The server that asked the members. The command has no effect when that server is no member any more: the
        /// others have then forgotten what it asked of them.
        node: NodeId,
        /// The incarnation of that server.
        incarnation: Incarnation,
    },
    /// Removes a module from the view. No member has an object of its types, or makes one.
    Drop {
        /// The SHA-256 of the module's bytes.
        id: [u8; 32],
        /// The view with which the module came to its place.
        since: ViewVersion,
        /// As in [`Keep`](Command::Keep).
        seen: ViewVersion,
        /// As in [`Keep`](Command::Keep).
        node: NodeId,
        /// The incarnation of that server.
        incarnation: Incarnation,
    },
}

/// Why a command did nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Another incarnation of the server is a member still.
    #[error(
        "the identity {node} is in use: by another server with a copy of this one's data directory, or by this one before it was started again; that one's lease must end first"
    )]
    InUse {
        /// The server.
        node: NodeId,
    },
    /// This incarnation of the server has ended.
    #[error(
        "{node} was taken for dead, and has no part in the cluster any more: it must start again"
    )]
    Evicted {
        /// The server.
        node: NodeId,
    },
    /// The members go by another lease. The leader expires the others by its own.
    #[error(
        "its lease between servers is {own_ms} ms, and that of the cluster {lease_ms} ms: start it with --server-lease-ms {lease_ms}, or all servers with the same other one"
    )]
    OtherLease {
        /// Of the server, in milliseconds.
        own_ms: u64,
        /// Of the members.
        lease_ms: u64,
    },
    /// The server is no member.
    #[error("{node} is no member of the cluster, or not in this incarnation")]
    NoMember {
        /// The server.
        node: NodeId,
    },
    /// There are too many modules.
    #[error(
        "the modules of the cluster would have {bytes} bytes, where {MODULES_BYTES_MAX} (MODULES_BYTES_MAX) are allowed: remove some"
    )]
    TooManyModules {
        /// All together.
        bytes: u64,
    },
    /// A module is too large.
    #[error(
        "the module has {bytes} bytes, where {MODULE_BYTES_MAX} (MODULE_BYTES_MAX) are allowed in a cluster: build it with --release"
    )]
    LargeModule {
        /// Its size.
        bytes: u64,
    },
    /// A server has joined, objects have moved, or the modules have changed.
    #[error(
        "the members, the places of objects or the modules have changed with view {present:?}, and the decision rests on view {seen:?}"
    )]
    Overtaken {
        /// The view that the decision rests on.
        seen: ViewVersion,
        /// The view with which they changed last.
        present: ViewVersion,
    },
    /// The configuration is another one by now.
    #[error("the partition is in epoch {present:?}, and the proposal follows epoch {epoch:?}")]
    Stale {
        /// Of the proposal.
        epoch: Epoch,
        /// Of the partition.
        present: Epoch,
    },
    /// The command cannot have come from a server that works.
    #[error("{what}")]
    Senseless {
        /// What is wrong with it.
        what: String,
    },
}

/// The control group's state: the newest view. Each voter has one, and gives it the same commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    view: Arc<View>,
    /// The last incarnation of each server that there has ever been: one that has ended does not come back.
    incarnations: BTreeMap<NodeId, Incarnation>,
}

impl Control {
    /// A cluster without members, with this number of partitions.
    pub fn new(partitions: usize) -> Control {
        Control {
            view: Arc::new(View::new(partitions)),
            incarnations: BTreeMap::new(),
        }
    }

    /// The newest view.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Whether commands can have led to this state, as far as that can be seen: it may come from elsewhere.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn check(&self, partitions: usize) -> Result<(), String> {
        let view = &self.view;
        let count = view.configurations.len();
        if count != partitions {
            return Err(format!("{count} partitions, and not {partitions}"));
        }
        let size = view.members.len();
        if size > MEMBERS_MAX {
            return Err(format!("{size} members"));
        }
        for (node, member) in &view.members {
            if self.incarnations.get(node) < Some(&member.incarnation) {
                return Err(format!(
                    "{node} is a member in an incarnation that never joined"
                ));
            }
        }
        view.flapping
            .check(|node| view.members.contains_key(&node))?;
        for (partition, configuration) in view.configurations.iter().enumerate() {
            let assignments = &configuration.assignments;
            let nodes: BTreeSet<_> = assignments.iter().map(|a| a.node).collect();
            let is_sound = nodes.len() == assignments.len()
                && nodes.len() <= ASSIGNMENTS_MAX
                && nodes.iter().all(|node| view.members.contains_key(node))
                && assignments.first().is_none_or(|primary| primary.rank == 0)
                && configuration.known_since <= view.routes_version;
            if !is_sound {
                return Err(format!("the assignments of partition {partition}"));
            }
        }
        Ok(())
    }

    /// Makes this the state of a new cluster, that of the servers which survive when most voters are gone for ever. The
    /// others are expired. Nobody knows what they have decided and created last, so that every partition is amnesic
    /// ([`Configuration::amnesic_since`]).
    pub fn rescue(&mut self, survivors: &BTreeSet<NodeId>) {
        let members = self.view.members.iter();
        let gone = members.filter(|(node, _)| !survivors.contains(node));
        let expire = gone.map(|(node, member)| Command::Expire {
            node: *node,
            incarnation: member.incarnation,
        });
        for command in expire.collect::<Vec<_>>() {
            // Of a member in this incarnation, which is not refused.
            let _ = self.apply(&command);
        }
        let view = Arc::make_mut(&mut self.view);
        // Later than any view that the old cluster has decided unseen.
        view.version.0 += RESCUE_VIEW_STEP;
        view.routes_version.0 += RESCUE_VIEW_STEP;
        for configuration in &mut view.configurations {
            if configuration.epoch > Epoch::default() {
                Arc::make_mut(configuration).amnesic_since = view.version;
            }
        }
    }

    /// Does a command; without effect if it is refused.
    pub fn apply(&mut self, command: &Command) -> Result<(), Refusal> {
        let mut view = View::clone(&self.view);
        view.version.0 += 1;
        match command {
            Command::Join {
                node,
                incarnation,
                address,
                lease_ms,
            } => {
                let last = self.incarnations.get(node).copied();
                let highest = last
                    .map_or(0, |last| last.0)
                    .saturating_add(INCARNATION_STEP_MAX);
                require(incarnation.0 <= highest, || {
                    format!(
                        "the incarnation {} of {node} is more than {INCARNATION_STEP_MAX} (INCARNATION_STEP_MAX) above its last one",
                        incarnation.0
                    )
                })?;
                let is_over = last.is_some_and(|last| *incarnation <= last);
                if is_over && !view.has(*node, *incarnation) {
                    return Err(Refusal::Evicted { node: *node });
                }
                view.agree(*node, *lease_ms)?;
                view.join(*node, *incarnation, address)?;
                self.incarnations.insert(*node, *incarnation);
            }
            Command::Leave { node, incarnation } => view.leave(*node, *incarnation)?,
            Command::Expire { node, incarnation } => view.expire(*node, *incarnation)?,
            Command::EndDamping { node, incarnation } => {
                view.require_member(*node, *incarnation)?;
                view.flapping.end_damping(*node);
            }
            Command::ForgetExpiries { node, seen } => view.flapping.forget_until(*node, *seen),
            Command::Reconfigure {
                partition,
                epoch,
                assignments,
            } => view.reconfigure(*partition, *epoch, assignments)?,
            Command::Forget { seen } => view.forget(*seen),
            Command::Keep {
                id,
                size,
                replace,
                seen,
                node,
                incarnation,
            } => {
                view.require_member(*node, *incarnation)?;
                view.keep(*id, *size, *replace, *seen)?;
            }
            Command::Drop {
                id,
                since,
                seen,
                node,
                incarnation,
            } => {
                view.require_member(*node, *incarnation)?;
                view.drop_module(*id, *since, *seen)?;
            }
        }
        let is_same = view.members == self.view.members
            && view.configurations == self.view.configurations
            && view.flapping == self.view.flapping
            && view.has_modules_of(&self.view);
        if is_same {
            // Nothing new: a repeated command.
            return Ok(());
        }
        view.count_routes(&self.view);
        self.view = Arc::new(view);
        Ok(())
    }
}

/// Whether a decision about modules, made with the view `seen`, has what it rests on since no later view than that.
fn require_seen(seen: ViewVersion, present: ViewVersion) -> Result<(), Refusal> {
    match present <= seen || CatalogMutant::NoFence.is_planted() {
        true => Ok(()),
        false => Err(Refusal::Overtaken { seen, present }),
    }
}

fn require(holds: bool, what: impl FnOnce() -> String) -> Result<(), Refusal> {
    match holds {
        true => Ok(()),
        false => Err(Refusal::Senseless { what: what() }),
    }
}

impl View {
    /// Whether there is room for a module.
    ///
    /// # Errors
    ///
    /// [`Refusal::LargeModule`], [`Refusal::TooManyModules`].
    pub fn check_room(&self, id: &[u8; 32], size: u64) -> Result<(), Refusal> {
        if size > MODULE_BYTES_MAX {
            return Err(Refusal::LargeModule { bytes: size });
        }
        let others = self.modules.iter().filter(|kept| kept.id != *id);
        let bytes = others.map(|kept| kept.size).sum::<u64>() + size;
        if bytes > MODULES_BYTES_MAX {
            return Err(Refusal::TooManyModules { bytes });
        }
        Ok(())
    }

    /// All members go by the same lease; the first says which.
    fn agree(&mut self, node: NodeId, lease_ms: u64) -> Result<(), Refusal> {
        if self.members.keys().all(|member| *member == node) {
            self.lease_ms = lease_ms;
        }
        match self.lease_ms == lease_ms {
            true => Ok(()),
            false => Err(Refusal::OtherLease {
                own_ms: lease_ms,
                lease_ms: self.lease_ms,
            }),
        }
    }

    fn join(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
        address: &str,
    ) -> Result<(), Refusal> {
        if let Some(member) = self.members.get(&node) {
            // The same incarnation at two places is two servers, with copies of one directory.
            return if member.incarnation == incarnation && member.address == address {
                Ok(())
            } else {
                Err(Refusal::InUse { node })
            };
        }
        require(address.len() <= ADDRESS_BYTES_MAX, || {
            format!(
                "its address has {} bytes, the limit is {ADDRESS_BYTES_MAX} (ADDRESS_BYTES_MAX)",
                address.len()
            )
        })?;
        require(self.members.len() < MEMBERS_MAX, || {
            format!("the cluster has {MEMBERS_MAX} servers, which is the limit (MEMBERS_MAX)")
        })?;
        let member = Member {
            incarnation,
            address: address.to_owned(),
            leaving: false,
        };
        self.members.insert(node, member);
        self.joined = self.version;
        self.flapping.on_joined(node);
        self.fill();
        Ok(())
    }

    fn leave(&mut self, node: NodeId, incarnation: Incarnation) -> Result<(), Refusal> {
        if !self.has(node, incarnation) {
            return Err(Refusal::NoMember { node });
        }
        if let Some(member) = self.members.get_mut(&node) {
            member.leaving = true;
        }
        self.dismiss();
        Ok(())
    }

    fn expire(&mut self, node: NodeId, incarnation: Incarnation) -> Result<(), Refusal> {
        if !self.has(node, incarnation) {
            return Err(Refusal::NoMember { node });
        }
        self.members.remove(&node);
        self.flapping.on_expired(node, self.version);
        for partition in self.partitions() {
            let present = self.configuration(partition);
            if present.rank(node).is_some() {
                let assignments = present
                    .assignments
                    .iter()
                    .filter(|assignment| assignment.node != node);
                let mut assignments: Vec<_> = assignments.copied().collect();
                if present.primary() == Some(node) {
                    // The node that has most objects comes first.
                    assignments.sort_by_key(|assignment| assignment.rank);
                }
                self.set(partition, assignments);
            }
        }
        self.fill();
        self.dismiss();
        Ok(())
    }

    fn reconfigure(
        &mut self,
        partition: PartitionId,
        epoch: Epoch,
        assignments: &[(Assignment, Incarnation)],
    ) -> Result<(), Refusal> {
        require(partition.index() < self.configurations.len(), || {
            format!(
                "partition {} where there are {}",
                partition.0,
                self.configurations.len()
            )
        })?;
        let nodes = assignments.iter().map(|(assignment, _)| assignment.node);
        let count = nodes.clone().collect::<BTreeSet<_>>().len();
        require(
            (1..=ASSIGNMENTS_MAX).contains(&count) && count == assignments.len(),
            || format!("{} assignments of {count} servers", assignments.len()),
        )?;
        let present = self.configuration(partition).epoch;
        if epoch != present {
            return Err(Refusal::Stale { epoch, present });
        }
        for (assignment, incarnation) in assignments {
            if !self.has(assignment.node, *incarnation) {
                return Err(Refusal::NoMember {
                    node: assignment.node,
                });
            }
        }
        self.set(
            partition,
            assignments
                .iter()
                .map(|(assignment, _)| *assignment)
                .collect(),
        );
        self.dismiss();
        Ok(())
    }

    fn require_member(&self, node: NodeId, incarnation: Incarnation) -> Result<(), Refusal> {
        match self.has(node, incarnation) {
            true => Ok(()),
            false => Err(Refusal::NoMember { node }),
        }
    }

    fn keep(
        &mut self,
        id: [u8; 32],
        size: u64,
        replace: bool,
        seen: ViewVersion,
    ) -> Result<(), Refusal> {
        let mut kept = self.modules.iter();
        if kept.any(|kept| kept.id == id && kept.since > seen) {
            // A repeated command.
            return Ok(());
        }
        require_seen(seen, self.keep_rests_on())?;
        self.check_room(&id, size)?;
        self.modules.retain(|kept| kept.id != id);
        self.modules.push(KeptModule {
            id,
            size,
            since: self.version,
            replace,
        });
        self.modules_changed = self.version;
        Ok(())
    }

    fn drop_module(
        &mut self,
        id: [u8; 32],
        since: ViewVersion,
        seen: ViewVersion,
    ) -> Result<(), Refusal> {
        let is_kept = |kept: &KeptModule| (kept.id, kept.since) == (id, since);
        if !self.modules.iter().any(is_kept) {
            // A repeated command.
            return Ok(());
        }
        require_seen(seen, self.drop_rests_on())?;
        self.modules.retain(|kept| !is_kept(kept));
        self.modules_changed = self.version;
        Ok(())
    }

    /// Gives the routes of this view, which follows `before`, the next version if they are others.
    fn count_routes(&mut self, before: &View) {
        if self.has_routes_of(before) {
            return;
        }
        self.routes_version.0 += 1;
        for configuration in &mut self.configurations {
            if configuration.since == self.version {
                Arc::make_mut(configuration).known_since = self.routes_version;
            }
        }
    }

    /// The next configuration of a partition. The first assignment is the primary's.
    fn set(&mut self, partition: PartitionId, mut assignments: Vec<Assignment>) {
        let present = self.configuration(partition);
        let primary = assignments.first().map(|assignment| assignment.node);
        let (since, promoted_from) = match present.primary() == primary {
            true => (present.since, present.promoted_from),
            false => (
                self.version,
                assignments.first().map_or(0, |primary| primary.rank),
            ),
        };
        if let Some(primary) = assignments.first_mut() {
            primary.rank = 0;
        }
        let next = Configuration {
            epoch: Epoch(present.epoch.0 + 1),
            since,
            assignments,
            promoted_from,
            ..*present
        };
        self.configurations[partition.index()] = Arc::new(next);
    }

    /// Gives a primary to partitions that have none.
    fn fill(&mut self) {
        for partition in self.partitions() {
            let present = self.configuration(partition);
            if !present.assignments.is_empty() {
                continue;
            }
            let assignments = wanted(partition, self, 1);
            if assignments.is_empty() {
                continue;
            }
            let is_first = present.epoch == Epoch::default();
            self.set(partition, assignments);
            if !is_first {
                let filled = Arc::make_mut(&mut self.configurations[partition.index()]);
                filled.emptied = filled.epoch;
                filled.amnesic_since = filled.since;
            }
        }
    }

    /// What was gone by that view is forgotten.
    fn forget(&mut self, seen: ViewVersion) {
        for configuration in &mut self.configurations {
            if configuration.is_amnesic() && configuration.amnesic_since <= seen {
                Arc::make_mut(configuration).amnesic_since = ViewVersion::default();
            }
        }
    }

    /// Removes leaving members that hold no replica.
    fn dismiss(&mut self) {
        let configurations = &self.configurations;
        let holds = |node| configurations.iter().any(|c| c.rank(node).is_some());
        let flapping = &mut self.flapping;
        self.members.retain(|node, member| {
            let stays = !member.leaving || holds(*node);
            if !stays {
                flapping.forget(*node);
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests;
