//! Clients that know newer routes than the server, or say so.

use crucial_object::{Result, encode};
use crucial_proto::frame::{Request, Response};

use super::server::{Client, Server, hello, join};
use crate::early::EARLY_MAX_MS;
use crate::replication::NodeId;
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
