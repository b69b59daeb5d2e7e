//! Handshakes of clients.

use bytes::Bytes;
use crucial_object::{Error, ObjectId, decode, encode};
use crucial_proto::frame::{Response, VERSION, peer};

use super::server::{Client, Server, hello, join};
use crate::replication::NodeId;
use crate::{Input, Outputs};

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

#[test]
fn clients_leave_room_for_other_servers() {
    let mut server = Server::with(|config| config.limits.connections_max = 2);
    server.decide(&join(NodeId(2)));
    let clients = [1, 2, 3].map(|session| server.client(session));
    for client in &clients[..2] {
        assert!(matches!(server.take(client)[..], [Response::Welcome(_)]));
    }
    let [Response::Refused(Error::LimitExceeded { limit, .. })] = &server.take(&clients[2])[..]
    else {
        panic!("more clients than allowed");
    };
    assert_eq!(limit, "connections_max");
    let peer = server.connection();
    let me = server
        .node
        .peer_hello((server.node.id().0, server.node.incarnation().0));
    let hello = peer::Hello {
        from: 2,
        incarnation: 1,
        ..me
    };
    let greeting = Input::PeerHello(peer.clone(), VERSION, Some(hello));
    // Its welcome is for another server, and not for the clients that this harness reads for.
    server
        .node
        .handle(greeting, server.now, &mut Outputs::new());
    assert!(peer.peer().is_some(), "another server was refused");
    // A client that goes makes room for another one.
    server.input(Input::Closed(clients[0].connection.clone()));
    let fourth = server.client(4);
    assert!(matches!(server.take(&fourth)[..], [Response::Welcome(_)]));
}

/// A server that is in no cluster learns who is here, and has no say about partitions.
#[test]
fn a_hello_of_no_cluster_makes_no_peer() {
    let mut server = Server::new();
    let mut out = Outputs::new();
    let me = server
        .node
        .peer_hello((server.node.id().0, server.node.incarnation().0));
    let mut greet = |cluster| {
        let connection = server.connection();
        let hello = peer::Hello {
            cluster,
            from: 99,
            to: None,
            ..me
        };
        let greeting = Input::PeerHello(connection.clone(), VERSION, Some(hello));
        server.node.handle(greeting, server.now, &mut out);
        assert!(!out.frames.is_empty(), "no welcome");
        let messages = Input::PeerMessages(connection.clone(), Bytes::from_static(b"any"));
        server.node.handle(messages, server.now, &mut out);
        let is_read = out.jobs.drain(..).count() > 0;
        (connection.peer().is_some(), is_read)
    };
    assert_eq!(greet(0), (false, false));
    assert_eq!(greet(me.cluster), (true, true));
}

/// A client that waits for a lock with its call 2, and says hello on a second connection.
struct Again {
    server: Server,
    old: Client,
    new: Client,
    holder: Client,
    lock: ObjectId,
    token: u64,
}

impl Again {
    fn new() -> Again {
        let mut server = Server::new();
        let (holder, old) = (server.client(1), server.client(2));
        let lock = server.lock(&holder, "a");
        server.call(&holder, 2, (lock, "acquire"), (Vec::new(), 0));
        let (_, token) = server.replies(&holder).pop().unwrap();
        server.lock(&old, "a");
        server.call(&old, 2, (lock, "acquire"), (Vec::new(), 0));
        server.take(&old);
        server.holds_greetings = true;
        Again {
            new: server.client(2),
            token: decode(&token.unwrap()).unwrap(),
            server,
            old,
            holder,
            lock,
        }
    }

    /// Lets the waiting call complete.
    fn release(&mut self) {
        let args = encode(&(self.token,)).unwrap();
        let method = (self.lock, "release_acquired");
        self.server.call(&self.holder, 3, method, (args, 0));
        let replies = self.server.replies(&self.holder);
        assert!(matches!(&replies[..], [(3, Ok(_))]));
    }

    fn send_welcomes(&mut self) {
        for greeted in std::mem::take(&mut self.server.greetings) {
            self.server.input(Input::Greeted(greeted));
        }
    }
}

#[test]
fn nothing_is_sent_on_a_connection_before_its_welcome() {
    let mut again = Again::new();
    let (old, new) = (again.old.clone(), again.new.clone());
    assert!(matches!(
        &again.server.take(&new)[..],
        [Response::Welcome(_)]
    ));
    again.release();
    again.server.decide(&join(NodeId(2)));
    assert_eq!(again.server.take(&new), []);
    assert!(!again.server.is_closed(&old));
    again.send_welcomes();
    let sent = again.server.take(&new);
    let [
        Response::Reply { sequence, result },
        Response::Routes(routes),
    ] = &sent[..]
    else {
        panic!("{sent:?}");
    };
    assert!(sequence.0 == 2 && result.is_ok());
    assert_eq!(routes.version, again.server.view().version.0);
    assert!(again.server.is_closed(&old) && !again.server.is_closed(&new));
}

#[test]
fn the_last_hello_of_a_session_has_its_replies() {
    let mut again = Again::new();
    let newest = again.server.client(2);
    // The welcomes go out in the other order.
    again.server.greetings.reverse();
    again.send_welcomes();
    assert!(again.server.is_closed(&again.old) && again.server.is_closed(&again.new));
    assert!(!again.server.is_closed(&newest));
    again.server.take(&newest);
    again.release();
    assert!(matches!(&again.server.replies(&newest)[..], [(2, Ok(_))]));
}

#[test]
fn a_connection_that_is_closed_before_its_welcome_gets_nothing() {
    let mut again = Again::new();
    let (old, new) = (again.old.clone(), again.new.clone());
    let closed = Input::Closed(new.connection.clone());
    again.server.input(closed);
    again.release();
    assert!(matches!(&again.server.replies(&old)[..], [(2, Ok(_))]));
    again.server.take(&new);
    again.send_welcomes();
    assert_eq!(again.server.take(&new), []);
}
