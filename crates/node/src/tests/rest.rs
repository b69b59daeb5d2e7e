//! What is left when something does not come to its end.

use crucial_object::encode;
use crucial_proto::frame::Operation;

use super::server::{Server, join};
use crate::Input;
use crate::replication::{Incarnation, NodeId};

#[test]
fn a_round_whose_objects_are_lost_is_forgotten() {
    let mut server = Server::new();
    let client = server.client(1);
    server.counter(&client, "a");
    server.input(Input::Evicted);
    server.request(&client, 2, Operation::ClearNamespace);
    assert_eq!(server.node.rounds.len(), 1);
    server.input(Input::Incarnation(Incarnation(2)));
    assert_eq!(server.node.rounds.len(), 0);
}

#[test]
fn an_object_that_is_not_made_leaves_no_home() {
    let mut server = Server::new();
    let client = server.client(1);
    server.decide(&join(NodeId(2)));
    server.holds_jobs = true;
    let counter = server.open(
        &client,
        1,
        ("crucial::AtomicI64", "a"),
        encode(&0i64).unwrap(),
    );
    server.move_to(counter, NodeId(2));
    server.execute_jobs();
    assert_eq!(server.node.status().objects, 0);
    assert_eq!(server.node.homes.len(), 0);
}
