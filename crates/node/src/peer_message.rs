//! Messages between servers.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::catalog::ModuleMessage;
use crate::replication::{Message, PartitionId, ViewVersion};

/// A message of one server to another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum PeerMessage {
    /// About a partition; with the newest view that the sender has heard of.
    Partition(PartitionId, ViewVersion, Message),
    /// About modules.
    Module(ModuleMessage),
    /// The first: which types are linked into the sender, as hashes of their names.
    Types(BTreeSet<u64>),
}

impl PeerMessage {
    /// About how many bytes it takes, without encoding it.
    pub fn size(&self) -> usize {
        match self {
            PeerMessage::Partition(_, _, message) => message.size(),
            PeerMessage::Module(message) => message.size(),
            PeerMessage::Types(types) => types.len() * size_of::<u64>(),
        }
    }
}
