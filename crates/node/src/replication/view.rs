//! The view: the members, and which of them holds what, as the control group has decided.

use std::collections::BTreeMap;
use std::sync::Arc;

use crucial_object::ObjectId;
use crucial_proto::frame::{RouteServer, Routes};
use serde::{Deserialize, Serialize};

use crate::catalog::mutant::CatalogMutant;
use crate::replication::{
    Epoch, Flapping, Incarnation, NodeId, PartitionId, RoutesVersion, ViewVersion,
};

/// A state of the cluster. Views follow each other in one order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Which.
    pub version: ViewVersion,
    /// The version of the routes that clients get of it.
    pub routes_version: RoutesVersion,
    /// The servers.
    pub members: BTreeMap<NodeId, Member>,
    /// The servers that were expired lately.
    pub flapping: Flapping,
    /// The lease that they go by, in milliseconds.
    pub lease_ms: u64,
    /// Of each partition.
    pub configurations: Vec<Arc<Configuration>>,
    /// The view with which the last server joined.
    pub joined: ViewVersion,
    /// Uploaded modules, in the order in which they were pushed the last time: a type is the last one's that has it.
    pub modules: Vec<KeptModule>,
    /// The view with which the modules changed last.
    pub modules_changed: ViewVersion,
}

/// A module that every server is to have. Its bytes are not in the view: servers fetch them from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptModule {
    /// The SHA-256 of the module's bytes.
    pub id: [u8; 32],
    /// The number of its bytes.
    pub size: u64,
    /// The view with which the module came to its place.
    pub since: ViewVersion,
    /// Whether its types may replace those of earlier modules.
    pub replace: bool,
}

/// A server that is part of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Which of its incarnations.
    pub incarnation: Incarnation,
    /// Where the others and the clients reach it.
    pub address: String,
    /// Whether it is to stop; it then gets nothing any more.
    pub leaving: bool,
}

/// The nodes that hold a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Rises by one with each change.
    pub epoch: Epoch,
    /// The view with which the present primary began.
    pub since: ViewVersion,
    /// The routes of that view: a client with these or newer ones knows of this primary, or that it was one.
    pub known_since: RoutesVersion,
    /// The primary's assignment, then the backups'. None where there has never been a server, or none is left.
    pub assignments: Vec<Assignment>,
    /// The rank at which the primary was assigned before it became the primary. Whatever the primary believes to have, it
    /// may lack changes of objects that have no more replicas than this.
    pub promoted_from: u8,
    /// The epoch with which the partition began anew, as no assignment was left; 0: it never did. What a node has from
    /// before is not the newest.
    pub emptied: Epoch,
    /// The view since which objects may be gone of which nobody knows, as no assignment was left; 0: there are no such
    /// objects, or an operator has said that they may be forgotten. Until then no persistent object is created just because
    /// its name is not known.
    pub amnesic_since: ViewVersion,
}

/// A place in a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Assignment {
    /// The node holds all objects that have more replicas than this. The primary's rank is 0.
    pub rank: u8,
    /// The node that has the assignment.
    pub node: NodeId,
}

impl View {
    /// The view before the first: no members, and this number of partitions.
    pub fn new(partitions: usize) -> View {
        View {
            version: ViewVersion::default(),
            routes_version: RoutesVersion::default(),
            members: BTreeMap::new(),
            flapping: Flapping::default(),
            lease_ms: 0,
            configurations: vec![Arc::default(); partitions],
            joined: ViewVersion::default(),
            modules: Vec::new(),
            modules_changed: ViewVersion::default(),
        }
    }

    /// The view with which a module has come to its place, if this view has it.
    pub fn module_since(&self, module: &[u8; 32]) -> Option<ViewVersion> {
        let mut kept = self.modules.iter();
        kept.find(|kept| kept.id == *module).map(|kept| kept.since)
    }

    /// All partitions.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionId> + use<> {
        (0..self.configurations.len() as u16).map(PartitionId)
    }

    /// The partition of an object.
    pub fn partition(&self, object: &ObjectId) -> PartitionId {
        PartitionId::of(object, self.configurations.len())
    }

    /// The nodes that hold a partition.
    pub fn configuration(&self, partition: PartitionId) -> &Configuration {
        &self.configurations[partition.index()]
    }

    /// The primary of a partition.
    pub fn primary(&self, partition: PartitionId) -> Option<NodeId> {
        self.configuration(partition).primary()
    }

    /// The view with which a partition has got its primary last.
    pub fn primaries_changed(&self) -> ViewVersion {
        let since = self.configurations.iter().map(|one| one.since);
        since.max().unwrap_or_default()
    }

    /// The view with which the last server joined, or the modules changed last: an earlier decision to keep a module
    /// does not count.
    pub fn keep_rests_on(&self) -> ViewVersion {
        self.joined.max(self.modules_changed)
    }

    /// The same for a decision to drop a module. An object of it can have come to a server that had none, from one that
    /// was asked later: so no partition may have got another primary.
    pub fn drop_rests_on(&self) -> ViewVersion {
        match CatalogMutant::DropAcrossMoves.is_planted() {
            true => self.keep_rests_on(),
            false => self.keep_rests_on().max(self.primaries_changed()),
        }
    }

    /// Whether this incarnation of the node is a member.
    pub fn has(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.members
            .get(&node)
            .is_some_and(|member| member.incarnation == incarnation)
    }

    /// Whether the modules are those of another view, in the same places.
    pub fn has_modules_of(&self, other: &View) -> bool {
        let places = |view: &View| -> Vec<_> {
            let modules = view.modules.iter();
            modules.map(|module| (module.id, module.since)).collect()
        };
        places(self) == places(other)
    }

    /// Whether clients know nothing of another view that they do not know of this one, so that its routes are the same.
    pub fn has_routes_of(&self, other: &View) -> bool {
        let known = |view: &View| -> Vec<_> {
            let members = view.members.iter();
            members
                .map(|(node, member)| (*node, member.incarnation, member.address.clone()))
                .collect()
        };
        // With another primary, a partition has another view in which that one began.
        let terms = self.configurations.iter().zip(&other.configurations);
        let mut terms = terms.map(|(one, other)| one.since == other.since);
        terms.all(|is_same| is_same) && known(self) == known(other)
    }

    /// What clients of this cluster know of the view.
    pub fn routes(&self, cluster: u64) -> Routes {
        let servers = self.members.iter().map(|(node, member)| RouteServer {
            node: node.0,
            incarnation: member.incarnation.0,
            address: member.address.clone(),
        });
        let place = |node| self.members.keys().position(|member| *member == node);
        let primaries = self.partitions().map(|id| {
            let primary = self.primary(id).and_then(place);
            primary.map_or(Routes::NONE, |place| place as u16)
        });
        Routes {
            cluster,
            version: self.routes_version.0,
            servers: servers.collect(),
            primaries: primaries.collect(),
        }
    }

    /// The nodes that may get assignments; those that are damped only where there are not enough others.
    pub fn staying(&self) -> impl Iterator<Item = NodeId> {
        let staying = self.members.iter().filter(|(_, member)| !member.leaving);
        staying.map(|(node, _)| *node)
    }
}

impl Configuration {
    /// Whether objects may be gone of which nobody knows.
    pub fn is_amnesic(&self) -> bool {
        self.amnesic_since > ViewVersion::default()
    }

    /// The node that orders the calls.
    pub fn primary(&self) -> Option<NodeId> {
        self.assignments.first().map(|assignment| assignment.node)
    }

    /// The rank of a node's assignment.
    pub fn rank(&self, node: NodeId) -> Option<u8> {
        let assignment = self
            .assignments
            .iter()
            .find(|assignment| assignment.node == node)?;
        Some(assignment.rank)
    }
}
