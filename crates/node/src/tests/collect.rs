//! A new primary compares what it has with what others hold, object by object: a method that runs long holds up its object,
//! and no other.

use std::collections::BTreeSet;

use crucial_object::ObjectId;

use super::overlap::{Part, accepted};
use crate::replication::{
    Action, Entry, Epoch, Form, Gate, Holding, Message, NodeId, RoutesVersion, Timing, Version,
};

const EPOCH: Epoch = Epoch(1);
const QUICK: ObjectId = ObjectId([1; 16]);
const LONG: ObjectId = ObjectId([2; 16]);
/// Neither here nor there.
const ABSENT: ObjectId = ObjectId([3; 16]);

/// A new primary of three.
fn primary() -> Part {
    let mut part = Part::with(&[1, 2, 3], Timing::default());
    let view = part.view(1, &[1, 2, 3], &[(0, 1), (1, 2), (2, 3)]);
    part.take(&view);
    part
}

/// A node says what it holds, but for `open`. Gives what is to be compared.
fn digest(part: &mut Part, node: u64, open: &[ObjectId]) -> Vec<ObjectId> {
    let digest = Message::Digest {
        epoch: EPOCH,
        holding: Vec::new(),
        open: open.to_vec(),
    };
    part.actions.clear();
    part.receive(node, digest);
    let asked = part
        .actions
        .iter()
        .any(|action| matches!(action, Action::Reconcile(from, ..) if *from == NodeId(node)));
    if !asked {
        return Vec::new();
    }
    let all = BTreeSet::from([QUICK, LONG]);
    let open = open.iter().copied().collect();
    let (now, actions) = (part.now, &mut part.actions);
    part.partition
        .compare(NodeId(node), (all, &open), now, actions)
}

fn compared(part: &mut Part, node: u64, object: ObjectId) {
    let (now, actions) = (part.now, &mut part.actions);
    part.partition.compared(NodeId(node), &object, now, actions);
    part.partition.check();
}

fn gates(part: &Part) -> [Gate; 3] {
    [QUICK, LONG, ABSENT].map(|object| part.partition.gate(RoutesVersion(9), &object))
}

/// The nodes that are asked what they hold, when it is time to ask again.
fn asked(part: &mut Part) -> Vec<NodeId> {
    let view = part.view(1, &[1, 2, 3], &[(0, 1), (1, 2), (2, 3)]);
    part.now += 500;
    part.actions.clear();
    part.partition.tick(&view, part.now, &mut part.actions);
    let asked = part.actions.iter().filter_map(|action| match action {
        Action::Send(to, Message::Collect { .. }) => Some(*to),
        _ => None,
    });
    asked.collect()
}

#[test]
fn what_is_alike_everywhere_is_served_while_an_object_is_held_up_at_another_server() {
    let mut part = primary();
    assert_eq!(digest(&mut part, 2, &[]), [QUICK, LONG]);
    compared(&mut part, 2, QUICK);
    compared(&mut part, 2, LONG);
    // The other one has said nothing yet, and may hold something of any object.
    assert_eq!(gates(&part), [Gate::Wait; 3]);
    assert_eq!(digest(&mut part, 3, &[LONG]), [QUICK]);
    assert!(part.actions.iter().any(|a| matches!(a, Action::Open)));
    assert_eq!(gates(&part), [Gate::Wait, Gate::Wait, Gate::Serve]);
    compared(&mut part, 3, QUICK);
    assert_eq!(gates(&part), [Gate::Serve, Gate::Wait, Gate::Serve]);
    // The rest is asked for, of this one alone.
    assert_eq!(asked(&mut part), [NodeId(3)]);
    assert_eq!(digest(&mut part, 3, &[LONG]), []);
    assert_eq!(digest(&mut part, 3, &[]), [LONG]);
    assert!(!part.actions.iter().any(|a| matches!(a, Action::Open)));
    compared(&mut part, 3, LONG);
    assert_eq!(gates(&part), [Gate::Serve; 3]);
    assert_eq!(asked(&mut part), []);
}

#[test]
fn what_is_held_up_here_holds_up_nothing_else() {
    let mut part = primary();
    for node in [2, 3] {
        assert_eq!(digest(&mut part, node, &[]), [QUICK, LONG]);
        compared(&mut part, node, QUICK);
    }
    // The task of the other object waits in its line.
    assert_eq!(gates(&part), [Gate::Serve, Gate::Wait, Gate::Serve]);
    // Nobody needs to be asked again.
    assert_eq!(asked(&mut part), []);
    for node in [2, 3] {
        compared(&mut part, node, LONG);
    }
    assert_eq!(gates(&part), [Gate::Serve; 3]);
}

#[test]
fn a_new_epoch_asks_anew() {
    let mut part = primary();
    for node in [2, 3] {
        digest(&mut part, node, &[LONG]);
        compared(&mut part, node, QUICK);
    }
    assert_eq!(gates(&part), [Gate::Serve, Gate::Wait, Gate::Serve]);
    // One of them goes; the other one may have heard of nothing since.
    part.actions.clear();
    let view = part.view(2, &[1, 2, 3], &[(0, 1), (1, 2)]);
    part.take(&view);
    assert_eq!(gates(&part), [Gate::Wait; 3]);
    part.compare(NodeId(2));
    assert_eq!(gates(&part), [Gate::Serve; 3]);
    // What waits is admitted again, and what was taken over is not taken over again.
    assert!(part.actions.iter().any(|a| matches!(a, Action::Resume)));
    assert!(!part.actions.iter().any(|a| matches!(a, Action::Open)));
}

/// Had it been told, and this server died before the backup knew, the object would come back.
#[test]
fn nobody_is_told_that_an_object_is_not_here_before_the_backup_has_dropped_it() {
    let mut part = primary();
    let there = Holding {
        object: LONG,
        version: Version::default(),
        form: Form::Full,
    };
    digest(&mut part, 2, &[]);
    compared(&mut part, 2, QUICK);
    assert_eq!(
        part.partition.reconcile(NodeId(2), LONG, None, Some(there)),
        None
    );
    compared(&mut part, 2, LONG);
    part.compare(NodeId(3));
    assert_eq!(gates(&part), [Gate::Serve; 3]);
    let dropped = part.actions.iter().any(|action| {
        matches!(action, Action::Send(NodeId(2), Message::Stream { entries, .. })
            if entries.iter().any(|entry| matches!(entry, Entry::Drop { .. })))
    });
    assert!(dropped);
    let last = part.partition.last();
    part.partition
        .answer_after(last, "it is not here", &mut part.actions);
    assert!(!part.has_released("it is not here"));
    part.receive(2, accepted(EPOCH, 100));
    assert!(part.has_released("it is not here"));
}
