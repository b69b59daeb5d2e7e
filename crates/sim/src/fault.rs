//! Something that goes wrong for a while.

use std::collections::{BTreeMap, BTreeSet};

use crucial_node::replication::NodeId;
use crucial_object::SessionId;

use crate::brittle::Weakness;
use crate::places::CLIENTS;

/// Which schedules there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One fault at a time, on a whole cluster: nothing is lost that has two replicas.
    OneFault,
    /// Faults at any time, also while others go on and while their consequences are mended; and longer ones.
    Overlapping,
}

/// Something that goes wrong for a while.
#[derive(Default)]
pub struct Fault {
    /// Nothing gets from the one to the other; 0 is the control group.
    pub cut: BTreeSet<(u64, u64)>,
    /// Clients that reach just this node.
    pub parted: BTreeMap<SessionId, NodeId>,
    /// A voter of the control group that does not reach the other voters.
    pub voter: Option<u64>,
    /// A node that cannot encode or decode brittle objects.
    pub weak: Option<(NodeId, Weakness)>,
}

impl Fault {
    /// Nothing gets from a node to the others and back.
    pub fn isolate(&mut self, victim: NodeId, nodes: &[NodeId], is_cut_from_clients: bool) {
        let others = nodes.iter().filter(|node| **node != victim);
        for other in others {
            self.cut_both_ways(victim.0, other.0);
        }
        self.cut_both_ways(victim.0, 0);
        if is_cut_from_clients {
            self.cut_both_ways(victim.0, CLIENTS);
        }
    }

    pub fn cut_both_ways(&mut self, one: u64, other: u64) {
        self.cut.insert((one, other));
        self.cut.insert((other, one));
    }
}
