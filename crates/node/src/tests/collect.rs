//! A new primary compares what it has with what others hold, object by object: a method that runs long holds up its object,
//! and no other.

use std::collections::BTreeSet;
use std::sync::Arc;

use crucial_object::{ObjectId, encode};
use crucial_proto::frame::{OpenMode, OpenRequest, Request};

use super::overlap::{Part, accepted};
use super::server::{ME, Server};
use crate::Input;
use crate::replication::{
    Action, Assignment, Entry, Epoch, Form, Gate, Holding, Message, NodeId, RoutesVersion, Timing,
    Version, View,
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

/// Assigns the partition of an object, as the control group would decide.
fn assign(server: &mut Server, view: &mut View, object: &ObjectId, assigned: &[(u8, NodeId)]) {
    view.version.0 += 1;
    view.routes_version.0 += 1;
    let index = view.partition(object).index();
    let configuration = Arc::make_mut(&mut view.configurations[index]);
    configuration.epoch.0 += 1;
    configuration.since = view.version;
    configuration.known_since = view.routes_version;
    let assignment = |(rank, node): &(u8, NodeId)| Assignment {
        rank: *rank,
        node: *node,
    };
    configuration.assignments = assigned.iter().map(assignment).collect();
    server.input(Input::View(Arc::new(view.clone())));
}

#[test]
fn a_method_that_runs_when_a_server_becomes_the_primary_holds_up_its_object_alone() {
    let mut server = Server::new();
    let client = server.client(1);
    let make = |server: &mut Server, sequence: u64| {
        let open = OpenRequest {
            type_name: "crucial::AtomicI64".to_owned(),
            key: sequence.to_string(),
            persistent: true,
            mode: OpenMode::FindOrCreate,
            replicas: 2,
            state: encode(&0i64).unwrap(),
        };
        server.open_as(&client, sequence, open)
    };
    let mut view = (*server.view()).clone();
    let long = make(&mut server, 1);
    let mut sequence = 1;
    let quick = loop {
        sequence += 1;
        let object = make(&mut server, sequence);
        if view.partition(&object) == view.partition(&long) {
            break object;
        }
    };
    server.replies(&client);
    let add = || (encode(&(1i64,)).unwrap(), 0);
    server.holds_jobs = true;
    server.call(&client, sequence + 1, (long, "fetch_add"), add());
    // This server is a backup for a moment.
    assign(&mut server, &mut view, &long, &[(0, NodeId(2)), (1, ME)]);
    assign(&mut server, &mut view, &long, &[(0, ME)]);
    let routes = Request::Routes(view.routes_version.0);
    server.input(Input::Request(client.connection.clone(), routes));
    let running = std::mem::take(&mut server.jobs);
    assert_eq!(running.len(), 1);
    server.call(&client, sequence + 2, (quick, "fetch_add"), add());
    server.call(&client, sequence + 3, (long, "fetch_add"), add());
    server.execute_jobs();
    let zero = encode(&0i64);
    assert_eq!(server.replies(&client), [(sequence + 2, zero.clone())]);
    // What was executed for the last term does not count, and the client's other calls are executed behind it.
    server.jobs = running;
    server.holds_jobs = false;
    server.execute_jobs();
    let replies = server.replies(&client);
    let sequences: Vec<u64> = replies.iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(sequences, [sequence + 3]);
}
