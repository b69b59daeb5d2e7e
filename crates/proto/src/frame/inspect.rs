//! Information about a server and its cluster, for people and tools.

use crucial_object::ObjectId;
use serde::{Deserialize, Serialize};

/// A request for information.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Inspect {
    /// The cluster, as the server knows it. The result is [`ClusterInfo`].
    Cluster,
    /// The objects of which this server is the primary, in the order of their ids. The result is a sequence of
    /// [`ObjectInfo`]s.
    Objects {
        /// Only those with an id above this one.
        after: Option<ObjectId>,
        /// At most this number of objects.
        max: u32,
        /// Only those with this key.
        key: Option<String>,
    },
    /// The part that this server has of each object. The result is a sequence of at most `max` [`ReplicaInfo`]s.
    Replicas {
        /// At most this number of objects.
        max: u32,
    },
}

/// The part of an object that a server has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaInfo {
    /// Which.
    pub id: ObjectId,
    /// The epoch and the number of the last change.
    pub version: (u64, u64),
    /// The checksum of its state, records and waiting calls; `None`: the object is elsewhere.
    pub checksum: Option<u64>,
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterInfo {
    /// Which.
    pub cluster: u64,
    /// The server that answers.
    pub node: u64,
    /// The version of its view.
    pub view: u64,
    /// Whether it may serve now.
    pub has_lease: bool,
    /// Objects at this server, in whatever part.
    pub objects: u64,
    /// The leader of the control group, if it is known.
    pub leader: Option<u64>,
    /// The voters of the control group.
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
    /// Its incarnation.
    pub incarnation: u64,
    /// Where it is reached.
    pub address: String,
    /// The server is leaving the cluster.
    pub leaving: bool,
}

/// A partition of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionInfo {
    /// Counts its configurations.
    pub epoch: u64,
    /// The servers that hold it, each after the rank above which it holds the objects; the primary first.
    pub assignments: Vec<(u8, u64)>,
    /// Whether these are the assignments that placement wants; else the partition is moving there.
    pub is_settled: bool,
    /// Whether persistent objects may be gone with all of their replicas, so that nobody knows which.
    pub is_amnesic: bool,
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
    /// The object was lost with its server.
    pub is_lost: bool,
    /// The epoch and the number of the last change.
    pub version: (u64, u64),
    /// Calls that wait in it.
    pub parked: u64,
    /// Results that it keeps.
    pub records: u64,
}
