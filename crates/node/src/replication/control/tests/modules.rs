//! Modules in the control group's state machine.

use super::{expire, join};
use crate::replication::{
    Command, Control, Incarnation, MODULE_BYTES_MAX, MODULES_BYTES_MAX, NodeId, Refusal, View,
    ViewVersion,
};

fn three() -> Control {
    let mut control = Control::new(4);
    for node in 1..=3 {
        control.apply(&join(node)).unwrap();
    }
    control
}

fn keep(id: u8, size: u64, seen: ViewVersion) -> Command {
    Command::Keep {
        id: [id; 32],
        size,
        replace: true,
        seen,
        node: NodeId(1),
        incarnation: Incarnation(1),
    }
}

fn drop_of(id: u8, view: &View) -> Command {
    let kept = view.modules.iter().find(|module| module.id == [id; 32]);
    Command::Drop {
        id: [id; 32],
        since: kept.unwrap().since,
        seen: view.version,
        node: NodeId(1),
        incarnation: Incarnation(1),
    }
}

fn ids(control: &Control) -> Vec<u8> {
    let modules = control.view().modules.iter();
    modules.map(|module| module.id[0]).collect()
}

#[test]
fn a_module_is_kept_once_until_it_is_dropped() {
    let mut control = three();
    let seen = control.view().version;
    for _ in 0..2 {
        // The second one is the first, repeated.
        control.apply(&keep(1, 10, seen)).unwrap();
        assert_eq!(ids(&control), [1]);
        assert_eq!(control.view().modules[0].since, control.view().version);
    }
    let drop = drop_of(1, control.view());
    for _ in 0..2 {
        control.apply(&drop).unwrap();
        assert_eq!(ids(&control), []);
    }
    // A late repetition does not bring it back.
    let late = control.apply(&keep(1, 10, seen));
    assert!(matches!(late, Err(Refusal::Overtaken { .. })));
}

#[test]
fn modules_have_limits() {
    let mut control = three();
    let seen = control.view().version;
    let refused = control.apply(&keep(1, MODULE_BYTES_MAX + 1, seen));
    assert!(matches!(refused, Err(Refusal::LargeModule { .. })));
    let room = MODULES_BYTES_MAX / MODULE_BYTES_MAX;
    for id in 0..=room {
        let seen = control.view().version;
        let kept = control.apply(&keep(id as u8, MODULE_BYTES_MAX, seen));
        let is_refused = matches!(kept, Err(Refusal::TooManyModules { .. }));
        assert_eq!(is_refused, id == room);
    }
}

#[test]
fn a_module_that_is_pushed_again_comes_last() {
    let mut control = three();
    for id in [1, 2, 1] {
        let seen = control.view().version;
        control.apply(&keep(id, 0, seen)).unwrap();
    }
    assert_eq!(ids(&control), [2, 1]);
    assert_eq!(control.view().modules[1].since, control.view().version);
}

#[test]
fn a_decision_about_modules_rests_on_members_and_modules_of_one_view() {
    let mut control = three();
    let seen = control.view().version;
    control.apply(&keep(1, 0, seen)).unwrap();
    let overtaken = control.apply(&keep(2, 0, seen));
    assert!(matches!(overtaken, Err(Refusal::Overtaken { .. })));
    let drop = drop_of(1, control.view());
    control.apply(&join(4)).unwrap();
    let overtaken = control.apply(&drop);
    assert!(matches!(overtaken, Err(Refusal::Overtaken { .. })));
    assert_eq!(ids(&control), [1]);
    // The server that asked the others is gone.
    let drop = drop_of(1, control.view());
    control.apply(&expire(1)).unwrap();
    let late = control.apply(&drop);
    assert!(matches!(late, Err(Refusal::NoMember { .. })));
    assert_eq!(ids(&control), [1]);
}
