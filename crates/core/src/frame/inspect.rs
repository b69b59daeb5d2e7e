//! What a server of a cluster says of itself and its cluster, for people and tools.

use crucial_object::ObjectId;
use serde::{Deserialize, Serialize};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Inspect {
    /// The cluster, as the server knows it. The result is [`ClusterInfo`].
    Cluster,
    /// The objects of which this server is the primary, in the order of their ids. The result is a sequence of
    /// [`ObjectInfo`]s.
    Objects {
        /// Only those with an id above this one.
        after: Option<ObjectId>,
        /// At most so many.
        max: u32,
        /// Only those with this key.
        key: Option<String>,
    },
    /// What this server has of all objects. The result is a sequence of [`ReplicaInfo`]s, of at most so many.
    Replicas {
        /// So many.
        max: u32,
    },
}

/// What a server has of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaInfo {
    /// Which.
    pub id: ObjectId,
    /// The epoch and the number of the change that made it what it is.
    pub version: (u64, u64),
    /// Of its state, records and waiting calls; `None`: the object is elsewhere.
    pub checksum: Option<u64>,
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterInfo {
    /// Which; 0: the server is alone, and nothing else is said.
    pub cluster: u64,
    /// The server that answers.
    pub node: u64,
    /// The version of its view.
    pub view: u64,
    /// Whether it may serve now.
    pub has_lease: bool,
    /// Objects at this server, in whatever part.
    pub objects: u64,
    /// Who leads the control group, if that is known.
    pub leader: Option<u64>,
    /// Who votes in it.
    pub voters: Vec<u64>,
    /// The servers.
    pub members: Vec<MemberInfo>,
    /// The partitions.
    pub partitions: Vec<PartitionInfo>,
}

/// A server of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberInfo {
    /// Which.
    pub node: u64,
    /// In which of its lives.
    pub incarnation: u64,
    /// Where it is reached.
    pub address: String,
    /// It is on its way out.
    pub leaving: bool,
}

/// A partition of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionInfo {
    /// Counts its configurations.
    pub epoch: u64,
    /// The servers that hold it, with the level above which each holds its objects: the primary first.
    pub seats: Vec<(u8, u64)>,
    /// They are those that placement wants; else it is on its way there.
    pub is_settled: bool,
}

/// An object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectInfo {
    /// Which.
    pub id: ObjectId,
    /// Its type.
    pub type_name: String,
    /// Its key.
    pub key: String,
    /// `ns/NAME` or `run/ID`.
    pub home: String,
    /// Its partition.
    pub partition: u16,
    /// On how many servers it is to be.
    pub replicas: u8,
    /// The servers that have it, the primary first.
    pub servers: Vec<u64>,
    /// It was lost with its server.
    pub is_lost: bool,
    /// The epoch and the number of the last change.
    pub version: (u64, u64),
    /// Calls that wait in it.
    pub parked: u64,
    /// Results that it keeps.
    pub records: u64,
}
