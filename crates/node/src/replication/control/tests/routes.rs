//! The versions of what clients know of views.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::ids::REPLICAS_MAX;
use crate::replication::RoutesVersion;

/// A few of the commands that a cluster of five servers and eight partitions may see, in any order.
#[derive(Clone, Copy, Debug)]
enum Step {
    Join(u64),
    Leave(u64),
    Expire(u64),
    /// The partition gets these servers, the first as its primary.
    Move(u16, [u64; 2]),
    /// A server whose expiries are forgotten: nothing that clients know of.
    Forget(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 1..=5u64;
    prop_oneof![
        3 => node().prop_map(Step::Join),
        1 => node().prop_map(Step::Leave),
        2 => node().prop_map(Step::Expire),
        6 => (0..8u16, node(), node()).prop_map(|(id, one, two)| Step::Move(id, [one, two])),
        1 => node().prop_map(Step::Forget),
    ]
}

fn command(control: &Control, step: Step) -> Option<Command> {
    let view = control.view();
    let incarnation = |node| Some(view.members.get(&NodeId(node))?.incarnation);
    Some(match step {
        Step::Join(node) => {
            let last = control.incarnations.get(&NodeId(node));
            let next = last.map_or(1, |last| last.0 + 1);
            join_as((node, next), "host:1", 1000)
        }
        Step::Leave(node) => Command::Leave {
            node: NodeId(node),
            incarnation: incarnation(node)?,
        },
        Step::Expire(node) => Command::Expire {
            node: NodeId(node),
            incarnation: incarnation(node)?,
        },
        Step::Move(partition, nodes) => {
            let partition = PartitionId(partition);
            let mut assignments = vec![(assignment(0, nodes[0]), incarnation(nodes[0])?)];
            if nodes[0] != nodes[1] {
                assignments.push((assignment(1, nodes[1]), incarnation(nodes[1])?));
            }
            Command::Reconfigure {
                partition,
                epoch: view.configuration(partition).epoch,
                assignments,
            }
        }
        Step::Forget(node) => Command::ForgetExpiries {
            node: NodeId(node),
            seen: view.version,
        },
    })
}

/// The routes of a view without their version.
fn contents(view: &View) -> crucial_proto::frame::Routes {
    let mut routes = view.routes(1);
    routes.version = 0;
    routes
}

proptest! {
    /// Whoever knows the version of the routes of two views knows of each partition what the views' versions say of it.
    #[test]
    fn versions_of_routes_tell_as_much_as_versions_of_views(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        let mut control = Control::new(8);
        let mut views = vec![control.view().clone()];
        for step in steps {
            let Some(command) = command(&control, step) else { continue };
            // A refusal is as good as any other step.
            let _ = control.apply(&command);
            prop_assert_eq!(control.check(8), Ok(()));
            let (last, view) = (views.last().unwrap().clone(), control.view().clone());
            if view.version > last.version {
                let step = view.routes_version.0 - last.routes_version.0;
                prop_assert_eq!(step, u64::from(contents(&view) != contents(&last)));
                views.push(view);
            }
        }
        for (known, later) in views.iter().flat_map(|one| views.iter().map(move |other| (one, other))) {
            for configuration in &later.configurations {
                prop_assert_eq!(
                    known.version >= configuration.since,
                    known.routes_version >= configuration.known_since
                );
            }
        }
        // Between two primaries that are the same, with another one in between, there are two versions at least: a client
        // that knows the first one sees that it has skipped something.
        for id in control.view().partitions() {
            let mut last: BTreeMap<NodeId, (ViewVersion, RoutesVersion)> = BTreeMap::new();
            for view in &views {
                let Some(primary) = view.primary(id) else { continue };
                let since = view.configuration(id).since;
                if let Some((before, routes)) = last.insert(primary, (since, view.routes_version))
                    && before != since
                {
                    prop_assert!(view.routes_version.0 >= routes.0 + 2);
                }
            }
        }
    }
}

#[test]
fn a_fourth_server_that_joins_three_changes_the_routes_as_often_as_primaries_move() {
    let mut control = Control::new(PARTITIONS);
    for node in 1..=3 {
        control.apply(&join(node)).unwrap();
    }
    let settle = |control: &mut Control| {
        let mut primaries = 0;
        for partition in control.view().partitions() {
            let wanted = wanted(partition, control.view(), REPLICAS_MAX);
            let mut present = control.view().configuration(partition).assignments.clone();
            primaries += usize::from(present[0].node != wanted[0].node);
            // As the partition's primary does: one joins after the other, and then all get their ranks.
            for joining in &wanted {
                if present
                    .iter()
                    .all(|assignment| assignment.node != joining.node)
                {
                    present.push(*joining);
                    let command = of(control, partition, &present);
                    control.apply(&command).unwrap();
                }
            }
            if present != wanted {
                let command = of(control, partition, &wanted);
                control.apply(&command).unwrap();
            }
        }
        primaries
    };
    settle(&mut control);
    let before = control.view().clone();
    control.apply(&join(4)).unwrap();
    let primaries = settle(&mut control) as u64;
    let views = control.view().version.0 - before.version.0;
    let routes = control.view().routes_version.0 - before.routes_version.0;
    assert_eq!(routes, 1 + primaries);
    assert!(4 * routes < views, "{routes} of {views}");
}

fn of(control: &Control, partition: PartitionId, assignments: &[Assignment]) -> Command {
    Command::Reconfigure {
        partition,
        epoch: control.view().configuration(partition).epoch,
        assignments: with_incarnations(assignments.to_vec()),
    }
}

#[test]
fn a_rescued_cluster_has_later_routes_than_the_old_one_can_have() {
    let mut control = three();
    let before = control.view().routes_version.0;
    control.rescue(&BTreeSet::from([NodeId(2)]));
    assert!(control.view().routes_version.0 > before + RESCUE_VIEW_STEP);
    assert_eq!(control.check(PARTITIONS), Ok(()));
}
