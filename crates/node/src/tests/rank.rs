//! A node that missed a view, by which it is the primary no more.

use std::collections::BTreeMap;
use std::sync::Arc;

use crucial_object::ObjectId;

use crate::replication::{
    Action, Assignment, Configuration, Epoch, Gate, Incarnation, Member, Message, NodeId,
    Partition, PartitionId, RoutesVersion, Timing, View, ViewVersion,
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
        ..View::new(1)
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
fn an_epoch_far_beyond_the_view_is_not_taken_up() {
    for epoch in [u64::MAX, 18] {
        let me = (ME, Incarnation(1));
        let mut partition =
            Partition::<()>::new(PartitionId(0), me, (3, Timing::default()), Arc::default());
        let mut out = Vec::new();
        partition.on_view(&view(1), 0, &mut out);
        let epoch = Epoch(epoch);
        let (base, first, upto) = (1, 1, u64::MAX);
        let (entries, holding, object) = (Vec::new(), Vec::new(), ObjectId([1; 16]));
        let messages = [
            Message::Collect { epoch, rank: 1 },
            Message::Stream {
                epoch,
                base,
                first,
                entries,
            },
            Message::Digest {
                epoch,
                holding,
                open: Vec::new(),
            },
            super::overlap::accepted(epoch, upto),
            Message::Diverged { epoch, object },
        ];
        for message in messages {
            partition.receive(OTHER, message, 10, &mut out);
            partition.check();
        }
        assert_eq!(partition.epoch(), Epoch(1));
        assert_eq!(partition.gate(RoutesVersion(1), &object), Gate::Serve);
        // And so the next view's epoch is taken up.
        partition.on_view(&view(2), 20, &mut out);
        assert_eq!(partition.epoch(), Epoch(2));
    }
}

#[test]
fn a_primary_that_nobody_has_asked_loses_nothing() {
    assert_eq!(lost_ranks(None), []);
    // An old question changes nothing.
    let epoch = Epoch(0);
    let asked = Message::Collect { epoch, rank: 1 };
    assert_eq!(lost_ranks(Some(asked)), []);
}
