//! Which servers are to hold a partition: rendezvous hashing (Thaler, Ravishankar 1998).

use crate::replication::{Assignment, NodeId, PartitionId, View};

/// The assignments that a partition is to have: one for each of the nodes that rank first, with the ranks 0, 1, 2, ..
/// Damped nodes come behind all others, so that they have an assignment only where there are not enough others.
pub fn wanted(partition: PartitionId, view: &View, replicas_max: u8) -> Vec<Assignment> {
    let mut ranked: Vec<_> = view
        .staying()
        .map(|node| {
            let is_damped = view.flapping.is_damped(node);
            (!is_damped, weight(partition, node), node)
        })
        .collect();
    ranked.sort_unstable_by(|one, other| other.cmp(one));
    let ranks = 0..replicas_max;
    ranks
        .zip(ranked)
        .map(|(rank, (.., node))| Assignment { rank, node })
        .collect()
}

/// A hash of both: SplitMix64's finalizer, twice.
fn weight(partition: PartitionId, node: NodeId) -> u64 {
    mix(mix(node.0).wrapping_add(u64::from(partition.0)))
}

fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::{Incarnation, Member, PARTITIONS};
    use proptest::prelude::*;

    fn view(nodes: impl IntoIterator<Item = u64>) -> View {
        let mut view = View::new(PARTITIONS);
        for node in nodes {
            let member = Member {
                incarnation: Incarnation(node),
                address: String::new(),
                leaving: false,
            };
            view.members.insert(NodeId(node), member);
        }
        view
    }

    /// How many assignments of a rank are other nodes' in the two views.
    fn moved(before: &View, after: &View, rank: usize) -> usize {
        let node = |view: &View, partition| {
            let assignments = wanted(partition, view, 3);
            assignments.get(rank).map(|assignment| assignment.node)
        };
        before
            .partitions()
            .filter(|partition| node(before, *partition) != node(after, *partition))
            .count()
    }

    #[test]
    fn a_join_moves_no_more_than_its_share() {
        // Of many clusters with random names, on average; and of one in no more than chance allows.
        let (mut total, mut worst) = (0.0, 0.0_f64);
        let clusters = 200;
        for cluster in 0..clusters {
            let nodes: Vec<u64> = (0..4).map(|node| mix(cluster * 1000 + node)).collect();
            let (before, after) = (view(nodes[..3].to_vec()), view(nodes.clone()));
            let ratio = moved(&before, &after, 0) as f64 / (PARTITIONS as f64 / 4.0);
            total += ratio;
            worst = worst.max(ratio);
        }
        assert!(
            total / clusters as f64 <= 1.02,
            "mean {}",
            total / clusters as f64
        );
        assert!(worst <= 1.2, "worst {worst}");
    }

    proptest! {
        #[test]
        fn a_node_that_comes_takes_and_nobody_else_moves(
            nodes in prop::collection::btree_set(any::<u64>(), 2..8)
        ) {
            let nodes: Vec<_> = nodes.into_iter().collect();
            let (before, after) = (view(nodes[1..].to_vec()), view(nodes.clone()));
            let joining = NodeId(nodes[0]);
            for partition in before.partitions() {
                let old = wanted(partition, &before, 3);
                let new = wanted(partition, &after, 3);
                // Without the joining node the order is what it was.
                let rest: Vec<_> = new.iter().map(|assignment| assignment.node).filter(|n| *n != joining).collect();
                let old: Vec<_> = old.iter().map(|assignment| assignment.node).take(rest.len()).collect();
                prop_assert_eq!(rest, old);
            }
        }
    }
}
