//! Clients that know newer routes than the server, or say so.

use crucial_object::{Result, encode};
use crucial_proto::frame::{Request, Response};

use super::server::{Client, ME, PARTITIONS, Server, hello, join};
use crate::early::EARLY_MAX_MS;
use crate::replication::{Assignment, Command, Incarnation, NodeId, PartitionId};
use crate::{Input, Millis};

fn add(more: i64) -> (Vec<u8>, u32) {
    (encode(&(more,)).unwrap(), 0)
}

fn sum(replies: &[(u64, Result<Vec<u8>>)]) -> Vec<u64> {
    assert!(
        replies.iter().all(|(_, result)| result.is_ok()),
        "{replies:?}"
    );
    replies.iter().map(|(sequence, _)| *sequence).collect()
}

/// A client that claims to know this version.
fn knowing(server: &mut Server, session: u64, version: u64) -> Client {
    let mut hello = hello(session);
    hello.routes = version;
    server.client_with(hello)
}

fn moved(server: &mut Server, client: &Client) -> Vec<(u64, u64)> {
    let moved = server.take(client).into_iter();
    let moved = moved.filter_map(|response| match response {
        Response::Moved { sequence, routes } => Some((sequence.0, routes)),
        _ => None,
    });
    moved.collect()
}

#[test]
fn a_client_that_takes_up_older_routes_is_served_by_them() {
    let mut server = Server::new();
    // The server was restarted as another cluster, and the client knew a later view of the first one.
    let client = knowing(&mut server, 1, 2);
    let routes = Request::Routes(1);
    server.input(Input::Request(client.connection.clone(), routes));
    let counter = server.counter(&client, "a");
    server.call(&client, 2, (counter, "fetch_add"), add(1));
    assert_eq!(sum(&server.replies(&client)), [1, 2]);
}

#[test]
fn a_client_that_claims_to_know_more_holds_nobody_up_and_does_not_wait_for_ever() {
    let mut server = Server::new();
    let other = server.client(1);
    let counter = server.counter(&other, "a");
    let liar = knowing(&mut server, 2, u64::MAX);
    for sequence in 1..=3 {
        server.call(&liar, sequence, (counter, "fetch_add"), add(1));
    }
    server.call(&other, 2, (counter, "fetch_add"), add(1));
    assert_eq!(sum(&server.replies(&other)), [1, 2]);
    server.pass(EARLY_MAX_MS - 1);
    assert_eq!(moved(&mut server, &liar), []);
    server.pass(1);
    assert_eq!(moved(&mut server, &liar), [(1, 1), (2, 1), (3, 1)]);
    // The same again, and for each other one.
    server.call(&liar, 1, (counter, "fetch_add"), add(1));
    server.call(&other, 3, (counter, "fetch_add"), add(1));
    assert_eq!(sum(&server.replies(&other)), [3]);
    server.pass(EARLY_MAX_MS);
    assert_eq!(moved(&mut server, &liar), [(1, 1)]);
}

#[test]
fn requests_of_a_client_that_knows_more_are_executed_in_their_order_when_the_view_comes() {
    let mut server = Server::new();
    let client = server.client(1);
    let queue = server.counter(&client, "a");
    server.replies(&client);
    let routes = Request::Routes(2);
    server.input(Input::Request(client.connection.clone(), routes));
    // The second one comes first, as the first one was answered "moved" before.
    for sequence in [3, 2, 4] {
        server.call(
            &client,
            sequence,
            (queue, "fetch_add"),
            add(sequence as i64),
        );
    }
    assert_eq!(server.replies(&client), []);
    server.decide(&join(NodeId(2)));
    let replies = server.replies(&client);
    assert_eq!(sum(&replies), [2, 3, 4]);
    let earlier: Vec<i64> = vec![0, 2, 5];
    let values = replies.iter().map(|(_, result)| result.clone().unwrap());
    let earlier = earlier.iter().map(|value| encode(value).unwrap());
    assert!(values.eq(earlier));
}

#[test]
fn requests_that_wait_for_a_view_have_a_limit() {
    let mut server = Server::with(|config| config.limits.waiting_requests_max = 2);
    let other = server.client(1);
    let counter = server.counter(&other, "a");
    let liar = knowing(&mut server, 2, 9);
    for sequence in 1..=4 {
        server.call(&liar, sequence, (counter, "fetch_add"), add(1));
    }
    let replies = server.replies(&liar);
    let refused: Vec<u64> = replies.iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(refused, [3, 4]);
    assert!(replies.iter().all(|(_, result)| result.is_err()));
    const LONG: Millis = 2 * EARLY_MAX_MS;
    server.pass(LONG);
    assert_eq!(moved(&mut server, &liar), [(1, 1), (2, 1)]);
}

/// The control group gives a partition to these servers.
fn assign(server: &mut Server, partition: PartitionId, nodes: &[NodeId]) {
    let assignments = (0..).zip(nodes).map(|(rank, node)| {
        let assignment = Assignment { rank, node: *node };
        (assignment, Incarnation(1))
    });
    let command = Command::Reconfigure {
        partition,
        epoch: server.view().configuration(partition).epoch,
        assignments: assignments.collect(),
    };
    server.decide(&command);
}

#[test]
fn a_client_gets_routes_when_something_that_it_uses_has_changed() {
    let mut server = Server::new();
    let (second, third, fourth) = (NodeId(2), NodeId(3), NodeId(4));
    server.decide(&join(second));
    server.decide(&join(third));
    // The other servers have everything, so that this one only hears of it.
    let partitions = || (0..PARTITIONS as u16).map(PartitionId);
    for partition in partitions() {
        assign(&mut server, partition, &[second, third]);
    }
    let client = server.client(1);
    server.take(&client);
    let before = server.view();
    server.decide(&join(fourth));
    for partition in partitions() {
        assign(&mut server, partition, &[second, third, fourth]);
        assign(&mut server, partition, &[second, fourth, third]);
    }
    // The last one gets another primary.
    let last = PartitionId(PARTITIONS as u16 - 1);
    assign(&mut server, last, &[fourth, second, third]);
    let routes = server
        .take(&client)
        .into_iter()
        .filter_map(|response| match response {
            Response::Routes(routes) => Some(routes),
            _ => None,
        });
    let routes: Vec<_> = routes.collect();
    let views = server.view().version.0 - before.version.0;
    // Before routes had a version of their own, one came for each of these views.
    assert_eq!(views, 2 * PARTITIONS as u64 + 2);
    let versions: Vec<u64> = routes.iter().map(|routes| routes.version).collect();
    let known = before.routes_version.0;
    assert_eq!(versions, [known + 1, known + 2]);
    assert_eq!(routes.last(), Some(&server.view().routes(7)));
}

#[test]
fn a_client_waits_for_no_routes_that_are_not_sent() {
    let mut server = Server::new();
    server.decide(&join(NodeId(2)));
    let client = server.client(1);
    let counter = server.counter(&client, "a");
    let partition = server.view().partition(&counter);
    // Views that change nothing for clients, so that there are more of them than routes.
    for _ in 0..3 {
        assign(&mut server, partition, &[ME]);
    }
    server.take(&client);
    server.move_to(counter, NodeId(2));
    server.call(&client, 2, (counter, "fetch_add"), add(1));
    let responses = server.take(&client);
    let sent = responses.iter().find_map(|response| match response {
        Response::Routes(routes) => Some(routes.version),
        _ => None,
    });
    let needs = responses.iter().find_map(|response| match response {
        Response::Moved { routes, .. } => Some(*routes),
        _ => None,
    });
    assert!(needs.is_some());
    assert_eq!(needs, sent);
}
