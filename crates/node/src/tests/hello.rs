//! Handshakes of clients.

use crucial_core::frame::Response;
use crucial_object::{decode, encode};

use super::server::{Client, Server, hello, join};
use crate::Input;
use crate::replication::NodeId;

#[test]
fn a_second_hello_begins_no_session() {
    let mut server = Server::new();
    let client = server.client(1);
    server.take(&client);
    server.hello(&client, hello(2));
    let [Response::Refused(_)] = server.take(&client)[..] else {
        panic!("a second hello was taken");
    };
    assert!(server.is_closed(&client));
    assert_eq!(server.node.status().sessions, 1);
}

/// A client's call 2 waits for a lock that another one has with this token, and the client says hello on a second connection.
fn say_hello_again() -> (Server, Client, [Client; 2], Box<dyn Fn(&mut Server)>) {
    let mut server = Server::new();
    let (first, old) = (server.client(1), server.client(2));
    let lock = server.lock(&first, "a");
    server.call(&first, 2, (lock, "acquire"), (Vec::new(), 0));
    let (_, token) = server.replies(&first).pop().unwrap();
    let token: u64 = decode(&token.unwrap()).unwrap();
    server.lock(&old, "a");
    server.call(&old, 2, (lock, "acquire"), (Vec::new(), 0));
    server.take(&old);
    server.holds_greetings = true;
    let new = server.client(2);
    let holder = first.clone();
    let release = move |server: &mut Server| {
        let args = encode(&(token,)).unwrap();
        server.call(&holder, 3, (lock, "release_acquired"), (args, 0));
        assert!(matches!(&server.replies(&holder)[..], [(3, Ok(_))]));
    };
    (server, first, [old, new], Box::new(release))
}

fn send_welcomes(server: &mut Server) {
    for greeted in std::mem::take(&mut server.greetings) {
        server.input(Input::Greeted(greeted));
    }
}

#[test]
fn nothing_is_sent_on_a_connection_before_its_welcome() {
    let (mut server, _, [old, new], release) = say_hello_again();
    assert!(matches!(&server.take(&new)[..], [Response::Welcome(_)]));
    release(&mut server);
    server.decide(&join(NodeId(2)));
    assert_eq!(server.take(&new), []);
    assert!(!server.is_closed(&old));
    send_welcomes(&mut server);
    let sent = server.take(&new);
    let [
        Response::Reply { sequence, result },
        Response::Routes(routes),
    ] = &sent[..]
    else {
        panic!("{sent:?}");
    };
    assert!(sequence.0 == 2 && result.is_ok());
    assert_eq!(routes.version, server.view().version.0);
    assert!(server.is_closed(&old) && !server.is_closed(&new));
}

#[test]
fn the_last_hello_of_a_session_has_its_replies() {
    let (mut server, _, [old, new], release) = say_hello_again();
    let newest = server.client(2);
    // The welcomes go out in the other order.
    server.greetings.reverse();
    send_welcomes(&mut server);
    assert!(server.is_closed(&old) && server.is_closed(&new));
    assert!(!server.is_closed(&newest));
    server.take(&newest);
    release(&mut server);
    assert!(matches!(&server.replies(&newest)[..], [(2, Ok(_))]));
}

#[test]
fn a_connection_that_is_closed_before_its_welcome_gets_nothing() {
    let (mut server, _, [old, new], release) = say_hello_again();
    server.input(Input::Closed(new.connection.clone()));
    release(&mut server);
    assert!(matches!(&server.replies(&old)[..], [(2, Ok(_))]));
    server.take(&new);
    send_welcomes(&mut server);
    assert_eq!(server.take(&new), []);
}
