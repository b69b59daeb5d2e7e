//! Messages of epochs that do not exist, from whoever takes part in the conversation of servers.

use crucial_object::encode;
use crucial_proto::frame::{Operation, VERSION, peer};

use super::server::{ME, PARTITIONS, Server};
use crate::Input;
use crate::peer_message::PeerMessage;
use crate::replication::{Epoch, Grant, Message, PartitionId, ViewVersion};

/// Asks for all partitions, as the primary of an epoch.
fn collect(server: &mut Server, epoch: u64) {
    let connection = server.connection();
    let hello = peer::Hello {
        cluster: 7,
        from: 66,
        incarnation: 1,
        to: Some((ME.0, 1)),
    };
    server.input(Input::PeerHello(connection.clone(), VERSION, Some(hello)));
    for id in 0..PARTITIONS as u16 {
        let message = Message::Collect {
            epoch: Epoch(epoch),
            rank: 9,
        };
        let message = PeerMessage::Partition(PartitionId(id), ViewVersion(u64::MAX), message);
        let bytes = encode(&message).unwrap().into();
        server.input(Input::PeerMessages(connection.clone(), bytes));
    }
}

fn is_served(server: &mut Server, session: u64) -> bool {
    let client = server.client(session);
    let object = server.counter(&client, "key");
    server.request(&client, 2, Operation::Delete(object));
    let replies = server.replies(&client);
    replies.len() == 2 && replies.iter().all(|(_, result)| result.is_ok())
}

fn lease(server: &mut Server, sent_ms: u64) {
    let view = server.view().version;
    server.input(Input::Lease(Grant { sent_ms, view }));
}

#[test]
fn an_epoch_far_beyond_the_view_changes_nothing() {
    let mut server = Server::new();
    collect(&mut server, u64::MAX);
    assert!(is_served(&mut server, 1));
}

#[test]
fn a_partition_gets_out_of_an_epoch_that_does_not_exist() {
    let mut server = Server::new();
    let client = server.client(1);
    let kept = server.counter(&client, "kept");
    server.pass(10);
    collect(&mut server, 9);
    assert!(!is_served(&mut server, 2), "there may be another primary");
    // Heartbeats that may have been answered before say nothing.
    lease(&mut server, 10);
    assert!(!is_served(&mut server, 3));
    assert!(!server.is_closed(&client));
    for sent_ms in 11..30 {
        lease(&mut server, sent_ms);
    }
    assert!(server.is_closed(&client), "the client asks again");
    assert!(is_served(&mut server, 4));
    // What was there is there.
    let again = server.client(5);
    server.request(&again, 1, Operation::Delete(kept));
    let replies = server.replies(&again);
    assert_eq!(replies, [(1, Ok(encode(&true).unwrap()))]);
}
