//! Handshakes of clients.

use crucial_core::frame::Response;

use super::server::{Server, hello};

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
