//! Servers that are taken for dead again and again.

use std::collections::BTreeSet;

use super::*;
use crate::ids::REPLICAS_MAX;
use crate::replication::{
    DAMPING_MS_MAX, Damping, EXPIRIES_FREE, FLAPPING_MAX, FLAPS_FORGOTTEN_MS,
};

const LEASE_MS: u64 = 1000;

/// The present incarnation of a member.
fn incarnation(control: &Control, node: u64) -> Incarnation {
    control.view().members[&NodeId(node)].incarnation
}

fn expire_now(control: &mut Control, node: u64) {
    let expire = Command::Expire {
        node: NodeId(node),
        incarnation: incarnation(control, node),
    };
    control.apply(&expire).unwrap();
    assert_eq!(control.check(PARTITIONS), Ok(()));
}

/// Joins as the next incarnation, whichever that is.
fn come_back(control: &mut Control, node: u64) {
    let last = control.incarnations.get(&NodeId(node)).unwrap().0;
    let join = join_as((node, last + 1), &format!("host-{node}:1"), LEASE_MS);
    control.apply(&join).unwrap();
    assert_eq!(control.check(PARTITIONS), Ok(()));
}

fn flap(control: &mut Control, node: u64, times: u8) {
    for _ in 0..times {
        expire_now(control, node);
        come_back(control, node);
    }
}

fn cluster(nodes: u64) -> Control {
    let mut control = Control::new(PARTITIONS);
    for node in 1..=nodes {
        control.apply(&join(node)).unwrap();
    }
    control
}

fn nodes_wanted(control: &Control, partition: PartitionId) -> BTreeSet<u64> {
    let wanted = wanted(partition, control.view(), REPLICAS_MAX).into_iter();
    wanted.map(|assignment| assignment.node.0).collect()
}

/// In how many partitions placement gives a node an assignment.
fn places(control: &Control, node: u64) -> usize {
    let partitions = control.view().partitions();
    let wanted = partitions.map(|partition| nodes_wanted(control, partition));
    wanted.filter(|nodes| nodes.contains(&node)).count()
}

/// How many partitions placement gives to a node as their primary.
fn primaries(control: &Control, node: u64) -> usize {
    let partitions = control.view().partitions();
    let first =
        partitions.filter_map(|id| wanted(id, control.view(), REPLICAS_MAX).first().copied());
    first.filter(|primary| primary.node.0 == node).count()
}

/// Lets the leader's clock run for so long, and gives what it proposes to the group.
fn pass(control: &mut Control, damping: &mut Damping, from_ms: u64, for_ms: u64) {
    for now_ms in (from_ms..=from_ms + for_ms).step_by(100) {
        for command in damping.due(&control.view().clone(), now_ms) {
            control.apply(&command).unwrap();
            assert_eq!(control.check(PARTITIONS), Ok(()));
        }
    }
}

#[test]
fn a_server_that_flaps_gets_no_partitions_until_it_has_been_a_member_for_long_enough() {
    let mut control = cluster(5);
    let usual = places(&control, 5);
    assert!(usual > PARTITIONS / 2, "{usual}");
    for _ in 0..EXPIRIES_FREE {
        flap(&mut control, 5, 1);
        assert_eq!(places(&control, 5), usual);
    }
    let mut pauses_ms = Vec::new();
    for _ in 0..7 {
        let before = control.clone();
        expire_now(&mut control, 5);
        let without: Vec<_> = control
            .view()
            .partitions()
            .map(|id| wanted(id, control.view(), REPLICAS_MAX))
            .collect();
        come_back(&mut control, 5);
        let with: Vec<_> = control
            .view()
            .partitions()
            .map(|id| wanted(id, control.view(), REPLICAS_MAX))
            .collect();
        // Nothing moves when the server joins.
        assert_eq!(with, without);
        assert_ne!(control, before);
        let mut damping = Damping::default();
        let mut now_ms = 7;
        while places(&control, 5) == 0 {
            pass(&mut control, &mut damping, now_ms, 0);
            now_ms += 100;
        }
        assert_eq!(places(&control, 5), usual);
        pauses_ms.push(now_ms - 107);
    }
    let expected = [
        2000,
        4000,
        8000,
        16_000,
        32_000,
        DAMPING_MS_MAX,
        DAMPING_MS_MAX,
    ];
    assert_eq!(pauses_ms, expected);
}

#[test]
fn expiries_are_forgotten_after_a_while_and_not_when_there_was_another() {
    let mut control = cluster(5);
    flap(&mut control, 5, EXPIRIES_FREE + 1);
    let mut damping = Damping::default();
    pass(&mut control, &mut damping, 0, FLAPS_FORGOTTEN_MS - 100);
    assert_eq!(control.view().flapping.iter().count(), 1);
    // Just before the leader forgets, there is another one, which a late command does not concern.
    let seen = control.view().version;
    flap(&mut control, 5, 1);
    let late = Command::ForgetExpiries {
        node: NodeId(5),
        seen,
    };
    control.apply(&late).unwrap();
    pass(&mut control, &mut damping, FLAPS_FORGOTTEN_MS, 0);
    assert!(control.view().flapping.is_damped(NodeId(5)));
    // A server that is gone for good is forgotten as well.
    expire_now(&mut control, 5);
    pass(&mut control, &mut damping, 0, 2 * FLAPS_FORGOTTEN_MS);
    assert_eq!(control.view().flapping.iter().count(), 0);
    come_back(&mut control, 5);
    assert!(places(&control, 5) > 0);
}

#[test]
fn the_end_of_a_pause_concerns_one_incarnation() {
    let mut control = cluster(5);
    flap(&mut control, 5, EXPIRIES_FREE + 1);
    let end = |incarnation| Command::EndDamping {
        node: NodeId(5),
        incarnation,
    };
    let late = end(incarnation(&control, 5));
    flap(&mut control, 5, 1);
    assert!(matches!(
        control.apply(&late),
        Err(Refusal::NoMember { .. })
    ));
    assert_eq!(places(&control, 5), 0);
    let present = end(incarnation(&control, 5));
    control.apply(&present).unwrap();
    assert!(places(&control, 5) > 0);
    // Once more is nothing new.
    let version = control.view().version;
    control.apply(&present).unwrap();
    assert_eq!(control.view().version, version);
}

#[test]
fn a_cluster_of_servers_that_all_flap_comes_back_at_once() {
    let mut control = cluster(5);
    let before: Vec<_> = control
        .view()
        .partitions()
        .map(|id| nodes_wanted(&control, id))
        .collect();
    // A power cut again and again. The leader is a member that is expired last.
    for _ in 0..10 {
        for node in 1..=5 {
            expire_now(&mut control, node);
        }
        assert_eq!(control.view().members.len(), 0);
        for node in 1..=5 {
            come_back(&mut control, node);
            for partition in control.view().partitions() {
                assert!(control.view().primary(partition).is_some());
            }
        }
        for (partition, before) in control.view().partitions().zip(&before) {
            assert_eq!(nodes_wanted(&control, partition), *before);
        }
    }
}

#[test]
fn damped_servers_count_where_there_are_not_enough_others() {
    let mut control = cluster(3);
    flap(&mut control, 3, EXPIRIES_FREE + 1);
    // The last place, and no primary.
    for partition in control.view().partitions() {
        let wanted = wanted(partition, control.view(), REPLICAS_MAX);
        assert_eq!(wanted.len(), 3);
        assert_eq!(wanted[2], assignment(2, 3));
    }
    // The others die: there is still somebody.
    expire_now(&mut control, 1);
    expire_now(&mut control, 2);
    for partition in control.view().partitions() {
        assert_eq!(control.view().primary(partition), Some(NodeId(3)));
    }
    // The others are not damped, and so come before it.
    come_back(&mut control, 1);
    assert_eq!(primaries(&control, 3), 0);
    let leave = Command::Leave {
        node: NodeId(1),
        incarnation: incarnation(&control, 1),
    };
    control.apply(&leave).unwrap();
    assert_eq!(primaries(&control, 3), PARTITIONS);
}

#[test]
fn servers_that_leave_as_they_should_are_not_damped() {
    let mut control = cluster(5);
    flap(&mut control, 5, EXPIRIES_FREE);
    for _ in 0..2 * EXPIRIES_FREE {
        let leave = Command::Leave {
            node: NodeId(5),
            incarnation: incarnation(&control, 5),
        };
        control.apply(&leave).unwrap();
        assert_eq!(control.view().members.len(), 4);
        come_back(&mut control, 5);
        assert!(places(&control, 5) > 0);
        assert_eq!(control.view().flapping.iter().count(), 0);
    }
}

#[test]
fn the_number_of_remembered_servers_is_bounded() {
    let mut control = Control::new(4);
    control.apply(&join(1)).unwrap();
    for node in 2..=FLAPPING_MAX as u64 + 3 {
        control.apply(&join(node)).unwrap();
        control.apply(&expire(node)).unwrap();
        assert_eq!(control.check(4), Ok(()));
    }
    let remembered: Vec<_> = control.view().flapping.iter().collect();
    assert_eq!(remembered.len(), FLAPPING_MAX);
    // The first ones are forgotten.
    assert_eq!(remembered[0].0, NodeId(4));
}
