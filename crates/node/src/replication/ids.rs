//! Names and numbers of what a cluster is made of.

use std::fmt;

use crucial_object::ObjectId;
use serde::{Deserialize, Serialize};

/// A server, as long as its directory is kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u64);

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{:x}", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// An incarnation of a server: a number that is higher at each start. The next one does not have what this one had in
/// memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

/// How many partitions a cluster has.
pub const PARTITIONS: usize = 1024;

/// A share of the objects.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartitionId(pub u16);

impl PartitionId {
    /// The partition of an object, of this number of partitions: the object's id begins with a hash.
    pub fn of(object: &ObjectId, partitions: usize) -> PartitionId {
        let hash = usize::from(u16::from_be_bytes([object.0[0], object.0[1]]));
        PartitionId(((hash * partitions) >> u16::BITS) as u16)
    }

    /// Its place in a table of all.
    pub fn index(self) -> usize {
        self.0.into()
    }
}

impl fmt::Debug for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}

/// Counts the configurations of a partition.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize,
)]
pub struct Epoch(pub u64);

/// Which change made an object what it is: the epoch, then the number of the change in it. No two changes of a
/// partition have the same.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize,
)]
pub struct Version {
    /// In which epoch.
    pub epoch: Epoch,
    /// Which change, from 1.
    pub change: u64,
}

/// Counts views.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize,
)]
pub struct ViewVersion(pub u64);

/// Counts the views that changed something that clients know: the servers' addresses and incarnations, and the primaries.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize,
)]
pub struct RoutesVersion(pub u64);
