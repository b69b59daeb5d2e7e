//! What a session knows of its calls that wait.

use crucial_object::{Error, ObjectId, Sequence};
use crucial_proto::frame::Request;

use super::server::{Client, Server, join};
use crate::Input;
use crate::replication::{Grant, NodeId};

fn parked(client: &Client) -> usize {
    client.connection.session().unwrap().parked_len()
}

/// Two clients, of which the second waits for a lock that the first has, with its call 2.
fn waiting() -> (Server, Client, Client, ObjectId) {
    let mut server = Server::new();
    let (first, second) = (server.client(1), server.client(2));
    let lock = server.lock(&first, "a");
    server.call(&first, 2, (lock, "acquire"), (Vec::new(), 0));
    server.lock(&second, "a");
    server.call(&second, 2, (lock, "acquire"), (Vec::new(), 0));
    server.replies(&second);
    assert_eq!(parked(&second), 1);
    (server, first, second, lock)
}

#[test]
fn a_call_that_is_withdrawn_waits_nowhere() {
    let (mut server, _, second, lock) = waiting();
    let cancel = Request::Cancel {
        sequence: Sequence(2),
        object: lock,
    };
    server.input(Input::Request(second.connection.clone(), cancel));
    assert_eq!(server.replies(&second), [(2, Err(Error::Cancelled))]);
    assert_eq!(parked(&second), 0);
}

#[test]
fn a_call_whose_object_goes_to_another_server_waits_there() {
    let (mut server, _, second, lock) = waiting();
    server.decide(&join(NodeId(2)));
    assert_eq!(parked(&second), 1);
    server.move_to(lock, NodeId(2));
    assert_eq!(parked(&second), 0);
}

#[test]
fn a_time_out_that_comes_while_there_is_no_lease_is_carried_out_with_the_next_one() {
    const TIMEOUT_MS: u32 = 300;
    let mut server = Server::new();
    let (first, second) = (server.client(1), server.client(2));
    let lock = server.lock(&first, "a");
    server.call(&first, 2, (lock, "acquire"), (Vec::new(), 0));
    server.lock(&second, "a");
    server.call(&second, 2, (lock, "acquire"), (Vec::new(), TIMEOUT_MS));
    server.replies(&second);
    server.input(Input::Evicted);
    server.pass(1_000);
    assert_eq!(server.replies(&second), []);
    server.input(Input::Lease(Grant {
        sent_ms: server.now,
        view: server.view().version,
    }));
    assert!(matches!(
        &server.replies(&second)[..],
        [(2, Err(Error::TimedOut { .. }))]
    ));
}
