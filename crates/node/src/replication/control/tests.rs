//! The control group's state machine: members and configurations.

mod flapping;
mod modules;
mod routes;

use super::*;
use crate::replication::PARTITIONS;

fn join(node: u64) -> Command {
    join_as((node, node), &format!("host-{node}:1"), 1000)
}

fn join_as((node, incarnation): (u64, u64), address: &str, lease_ms: u64) -> Command {
    Command::Join {
        node: NodeId(node),
        incarnation: Incarnation(incarnation),
        address: address.to_owned(),
        lease_ms,
    }
}

fn expire(node: u64) -> Command {
    Command::Expire {
        node: NodeId(node),
        incarnation: Incarnation(node),
    }
}

const PARTITION: PartitionId = PartitionId(7);

fn assignment(rank: u8, node: u64) -> Assignment {
    Assignment {
        rank,
        node: NodeId(node),
    }
}

fn reconfigure(control: &Control, assignments: Vec<Assignment>) -> Command {
    Command::Reconfigure {
        partition: PARTITION,
        epoch: control.view().configuration(PARTITION).epoch,
        assignments: with_incarnations(assignments),
    }
}

fn with_incarnations(assignments: Vec<Assignment>) -> Vec<(Assignment, Incarnation)> {
    let life = |assignment: Assignment| (assignment, Incarnation(assignment.node.0));
    assignments.into_iter().map(life).collect()
}

fn three() -> Control {
    let mut control = Control::new(PARTITIONS);
    for node in 1..=3 {
        control.apply(&join(node)).unwrap();
    }
    let assignments = vec![assignment(0, 1), assignment(1, 2), assignment(2, 3)];
    let command = reconfigure(&control, assignments);
    control.apply(&command).unwrap();
    control
}

#[test]
fn the_first_member_gets_all_and_the_second_nothing_by_itself() {
    let mut control = Control::new(PARTITIONS);
    control.apply(&join(1)).unwrap();
    control.apply(&join(2)).unwrap();
    for partition in control.view().partitions() {
        assert_eq!(
            control.view().configuration(partition).assignments,
            [assignment(0, 1)]
        );
    }
}

#[test]
fn the_backup_of_the_lowest_level_takes_over() {
    let mut control = three();
    let before = control.view().configuration(PARTITION).clone();
    control.apply(&expire(1)).unwrap();
    let after = control.view().configuration(PARTITION);
    assert_eq!(after.assignments, [assignment(0, 2), assignment(2, 3)]);
    assert_eq!(after.epoch.0, before.epoch.0 + 1);
    assert_eq!(after.since, control.view().version);
}

#[test]
fn a_primary_that_stays_began_when_it_began() {
    let mut control = three();
    let before = control.view().configuration(PARTITION).clone();
    control.apply(&expire(3)).unwrap();
    let after = control.view().configuration(PARTITION);
    assert_eq!(after.since, before.since);
    assert_eq!(after.epoch.0, before.epoch.0 + 1);
}

#[test]
fn a_proposal_that_comes_too_late_is_refused() {
    let mut control = three();
    let late = reconfigure(&control, vec![assignment(0, 1)]);
    control.apply(&expire(3)).unwrap();
    assert!(matches!(control.apply(&late), Err(Refusal::Stale { .. })));
}

#[test]
fn another_life_waits_for_the_end_of_the_first() {
    let mut control = three();
    let again = join_as((1, 99), "host-1:1", 1000);
    assert!(matches!(control.apply(&again), Err(Refusal::InUse { .. })));
    control.apply(&expire(1)).unwrap();
    control.apply(&again).unwrap();
    assert!(control.view().has(NodeId(1), Incarnation(99)));
}

#[test]
fn all_members_go_by_one_lease() {
    let mut control = three();
    let other = join_as((4, 4), "host-4:1", 3000);
    let refused = Err(Refusal::OtherLease {
        own_ms: 3000,
        lease_ms: 1000,
    });
    for node in [1, 2, 3] {
        assert_eq!(control.apply(&other), refused);
        control.apply(&expire(node)).unwrap();
    }
    // Nobody goes by the old one any more.
    control.apply(&other).unwrap();
    assert_eq!(control.view().lease_ms, 3000);
}

#[test]
fn the_same_life_at_another_place_is_another_server() {
    let mut control = three();
    let copy = join_as((1, 1), "host-9:1", 1000);
    assert!(matches!(control.apply(&copy), Err(Refusal::InUse { .. })));
}

#[test]
fn a_life_that_has_ended_does_not_come_back() {
    let mut control = three();
    control.apply(&expire(1)).unwrap();
    assert!(matches!(
        control.apply(&join(1)),
        Err(Refusal::Evicted { .. })
    ));
}

#[test]
fn who_leaves_is_a_member_until_it_holds_nothing() {
    let mut control = Control::new(PARTITIONS);
    control.apply(&join(1)).unwrap();
    control.apply(&join(2)).unwrap();
    let leave = Command::Leave {
        node: NodeId(1),
        incarnation: Incarnation(1),
    };
    control.apply(&leave).unwrap();
    assert!(control.view().has(NodeId(1), Incarnation(1)));
    for partition in control.view().partitions() {
        let command = Command::Reconfigure {
            partition,
            epoch: control.view().configuration(partition).epoch,
            assignments: with_incarnations(vec![assignment(0, 2)]),
        };
        control.apply(&command).unwrap();
    }
    assert!(!control.view().has(NodeId(1), Incarnation(1)));
}

#[test]
fn a_repeated_command_makes_no_view() {
    let mut control = three();
    let version = control.view().version;
    control.apply(&join(1)).unwrap();
    assert_eq!(control.view().version, version);
}

#[test]
fn commands_that_no_server_sends_are_refused() {
    let mut control = three();
    let before = control.clone();
    let of = |partition: u16, assignments: Vec<Assignment>| Command::Reconfigure {
        partition: PartitionId(partition),
        epoch: before.view().configuration(PARTITION).epoch,
        assignments: with_incarnations(assignments),
    };
    let senseless = [
        of(PARTITIONS as u16, vec![assignment(0, 1)]),
        of(u16::MAX, vec![assignment(0, 1)]),
        of(PARTITION.0, Vec::new()),
        of(PARTITION.0, vec![assignment(0, 1), assignment(1, 1)]),
        of(
            PARTITION.0,
            (0..200).map(|node| assignment(0, node)).collect(),
        ),
        join_as((4, u64::MAX), "host-4:1", 1000),
        join_as((4, 1), &"x".repeat(ADDRESS_BYTES_MAX + 1), 1000),
    ];
    for command in senseless {
        let refused = control.apply(&command);
        assert!(
            matches!(refused, Err(Refusal::Senseless { .. })),
            "{command:?}: {refused:?}"
        );
        assert_eq!(control, before);
    }
    // A server that joins again and again is another matter.
    control.apply(&expire(2)).unwrap();
    control
        .apply(&join_as((2, 1_000_000), "host-2:1", 1000))
        .unwrap();
    for node in 4..=MEMBERS_MAX as u64 {
        control.apply(&join(node)).unwrap();
    }
    let refused = control.apply(&join(MEMBERS_MAX as u64 + 1));
    assert!(
        matches!(refused, Err(Refusal::Senseless { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_state_that_cannot_be_is_noticed() {
    let control = three();
    assert_eq!(control.check(PARTITIONS), Ok(()));
    assert!(control.check(PARTITIONS - 1).is_err());
    let broken = |change: &dyn Fn(&mut View)| {
        let mut broken = control.clone();
        change(Arc::make_mut(&mut broken.view));
        broken.check(PARTITIONS)
    };
    let configuration = |view: &mut View, assignments: Vec<Assignment>| {
        Arc::make_mut(&mut view.configurations[7]).assignments = assignments;
    };
    assert_eq!(broken(&|_| ()), Ok(()));
    assert!(broken(&|view| drop(view.configurations.pop())).is_err());
    assert!(broken(&|view| drop(view.members.remove(&NodeId(3)))).is_err());
    assert!(broken(&|view| configuration(view, vec![assignment(0, 9)])).is_err());
    assert!(broken(&|view| configuration(view, vec![assignment(1, 1)])).is_err());
    let twice = vec![assignment(0, 1), assignment(1, 1)];
    assert!(broken(&|view| configuration(view, twice.clone())).is_err());
}
