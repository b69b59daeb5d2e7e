//! Objects that are gone with all of their replicas: their names do not come back empty.

use crucial_object::{Error, encode};
use crucial_proto::frame::{OpenMode, OpenRequest};

use super::server::{Client, ME, Server, hello};
use crate::Input;
use crate::replication::{Command, Grant, Incarnation};

fn open(key: &str, persistent: bool, mode: OpenMode) -> OpenRequest {
    OpenRequest {
        type_name: "crucial::AtomicI64".to_owned(),
        key: key.to_owned(),
        persistent,
        mode,
        replicas: 1,
        state: encode(&0i64).unwrap(),
    }
}

/// Whether the request makes an object; its error otherwise.
fn result(
    server: &mut Server,
    client: &Client,
    number: u64,
    open: OpenRequest,
) -> Result<bool, Error> {
    server.open_as(client, number, open);
    let replies = server.replies(client);
    let (_, result) = replies.into_iter().next().expect("a reply");
    result.map(|bytes| crucial_object::decode(&bytes).unwrap())
}

/// A server that was the only one, and comes back with nothing.
fn restarted() -> (Server, Client) {
    let mut server = Server::new();
    let client = server.client(1);
    assert_eq!(
        result(
            &mut server,
            &client,
            1,
            open("x", true, OpenMode::FindOrCreate)
        ),
        Ok(true)
    );
    server.input(Input::Evicted);
    server.input(Input::Incarnation(Incarnation(2)));
    server.decide_as(Incarnation(2));
    let view = server.view().version;
    server.input(Input::Lease(Grant { sent_ms: 0, view }));
    let mut hello = hello(2);
    hello.routes = view.0;
    let client = server.client_with(hello);
    (server, client)
}

#[test]
fn a_name_whose_object_may_be_gone_is_lost_until_somebody_says_otherwise() {
    let (mut server, client) = restarted();
    for (number, mode) in [(1, OpenMode::FindOrCreate), (2, OpenMode::Find)] {
        let found = result(&mut server, &client, number, open("x", true, mode));
        assert!(matches!(found, Err(Error::Lost { .. })), "{found:?}");
    }
    // An object of a run is not what a later run looks for.
    let ephemeral = open("x", false, OpenMode::FindOrCreate);
    assert_eq!(result(&mut server, &client, 3, ephemeral), Ok(true));
    // Whoever makes it anew says so.
    let anew = open("x", true, OpenMode::Recreate);
    assert_eq!(result(&mut server, &client, 4, anew), Ok(true));
    let found = open("x", true, OpenMode::FindOrCreate);
    assert_eq!(result(&mut server, &client, 5, found), Ok(false));
}

#[test]
fn an_operator_frees_the_names_of_what_is_gone() {
    let (mut server, client) = restarted();
    // What was gone before the partition began anew is not what is gone now.
    let gone_with = server.view().configurations[0].amnesic_since;
    let earlier = crate::replication::ViewVersion(gone_with.0 - 1);
    server.decide(&Command::Forget { seen: earlier });
    let create = |server: &mut Server, number| {
        let request = open("x", true, OpenMode::FindOrCreate);
        result(server, &client, number, request)
    };
    assert!(matches!(create(&mut server, 1), Err(Error::Lost { .. })));
    let seen = server.view().version;
    server.decide(&Command::Forget { seen });
    assert_eq!(create(&mut server, 2), Ok(true));
    assert!(server.view().has(ME, Incarnation(2)));
}
