//! Attempts to connect to another server.

use crucial_proto::frame::peer;

use super::server::{Server, join};
use crate::ids::DialId;
use crate::replication::{Incarnation, NodeId};
use crate::{Connection, ConnectionId, Input, Output};

const OTHER: NodeId = NodeId(2);

/// The attempts since the last time, with the incarnations of this server that made them.
fn dials(server: &mut Server) -> Vec<(DialId, peer::Hello)> {
    let others = std::mem::take(&mut server.others).into_iter();
    let dials = others.filter_map(|output| match output {
        Output::Dial {
            dial,
            node,
            incarnation,
            ..
        } => Some((dial, server.node.peer_hello((node.0, incarnation.0)))),
        _ => None,
    });
    dials.collect()
}

fn up(server: &mut Server, (dial, hello): (DialId, peer::Hello), index: u32) -> ConnectionId {
    let generation = 9;
    let id = ConnectionId { index, generation };
    let connection = Connection::to_peer(id, hello);
    server.input(Input::PeerUp(connection, dial));
    id
}

#[test]
fn the_end_of_an_earlier_attempt_says_nothing_of_a_later_one() {
    let mut server = Server::new();
    server.decide(&join(OTHER));
    let first = dials(&mut server)[0];
    // A new incarnation dials anew, while the first attempt is still under way.
    server.input(Input::Incarnation(Incarnation(2)));
    server.decide_as(Incarnation(2));
    let [second] = dials(&mut server)[..] else {
        panic!("the other server was not dialed again");
    };
    // The first attempt fails: there is no third.
    server.input(Input::PeerDown(OTHER, first.0));
    server.pass(1_000);
    assert_eq!(dials(&mut server), []);
    // Or it succeeds, in the name of an incarnation that is over.
    let late = up(&mut server, first, 100);
    assert!(server.has_closed(late));
    let connection = up(&mut server, second, 101);
    assert!(!server.has_closed(connection));
    // An attempt ends once.
    let again = up(&mut server, second, 102);
    assert!(server.has_closed(again));
    server.input(Input::PeerDown(OTHER, second.0));
    server.pass(1_000);
    assert_eq!(dials(&mut server), []);
}
