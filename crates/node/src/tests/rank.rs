//! A node that missed a view, by which it is the primary no more.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::replication::{
    Action, Assignment, Configuration, Epoch, Incarnation, Member, Message, NodeId, Partition,
    PartitionId, Timing, View, ViewVersion,
};

const ME: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);

/// A view in which this node is the primary, alone, since that view.
fn view(number: u64) -> View {
    let member = |node: NodeId| Member {
        incarnation: Incarnation(1),
        address: node.0.to_string(),
        leaving: false,
    };
    let configuration = Configuration {
        epoch: Epoch(number),
        since: ViewVersion(number),
        assignments: vec![Assignment { rank: 0, node: ME }],
        ..Configuration::default()
    };
    View {
        version: ViewVersion(number),
        members: BTreeMap::from([(ME, member(ME)), (OTHER, member(OTHER))]),
        lease_ms: 1_000,
        configurations: vec![Arc::new(configuration)],
        joined: ViewVersion(1),
        modules: Vec::new(),
        modules_changed: ViewVersion(0),
    }
}

/// Becomes the primary, and again by a later view. In between, if so, another primary asks.
fn lost_ranks(asked: Option<Message>) -> Vec<u8> {
    let me = (ME, Incarnation(1));
    let mut partition =
        Partition::<()>::new(PartitionId(0), me, (3, Timing::default()), Arc::default());
    let mut out = Vec::new();
    partition.on_view(&view(1), 0, &mut out);
    if let Some(message) = asked {
        partition.receive(OTHER, message, 10, &mut out);
    }
    partition.on_view(&view(9), 20, &mut out);
    let lost = out.iter().filter_map(|action| match action {
        Action::Lose(rank) => Some(*rank),
        _ => None,
    });
    lost.collect()
}

#[test]
fn what_a_newer_primary_had_alone_is_lost_though_its_view_was_missed() {
    let epoch = Epoch(5);
    let asked = Message::Collect { epoch, rank: 1 };
    assert_eq!(lost_ranks(Some(asked)), [1]);
}

#[test]
fn a_primary_that_nobody_has_asked_loses_nothing() {
    assert_eq!(lost_ranks(None), []);
    // An old question changes nothing.
    let epoch = Epoch(0);
    let asked = Message::Collect { epoch, rank: 1 };
    assert_eq!(lost_ranks(Some(asked)), []);
}
