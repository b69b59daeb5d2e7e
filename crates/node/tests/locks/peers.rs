//! Messages to another server, from several threads.

use crucial_node::replication::NodeId;
use shuttle::thread;

use crate::client::Client;
use crate::cluster::{Cluster, Place};
use crate::schedules::explore;
use crate::shell::Thread;

/// Messages for another server come up while the connection to it breaks and another one is there.
pub fn messages_and_a_new_connection() {
    let (mut cluster, object, client) = Cluster::new(Place::First);
    cluster.settle(&|_| false);
    let now = cluster.now;
    let [one, _] = cluster.shells.clone();
    let other = Client::connect(&mut Thread::new(&one, now), 2);
    let call = |mut client: Client| {
        let (one, object) = (one.clone(), object.clone());
        thread::spawn(move || {
            let mut thread = Thread::new(&one, now);
            let call = client.send(&mut thread, object.call("add", &()));
            (client, call)
        })
    };
    let callers = [call(client), call(other)];
    cluster.links[0] = cluster.links[0].reconnect(now);
    let callers = callers.map(|caller| caller.join().unwrap());
    let has_room = |_| true;
    one.node.drain_peer(NodeId(2), has_room, |_, _| {
        panic!("messages for a connected server wait, and no thread writes them")
    });
    // The lost messages are sent again.
    cluster.settle(&|_| false);
    let mut values = callers.map(|(client, call)| client.result::<u64>(call).unwrap());
    values.sort_unstable();
    assert_eq!(values, [0, 1]);
    for shell in &cluster.shells {
        shell.check();
    }
}

#[test]
fn messages_go_to_the_newest_connection() {
    explore(300, messages_and_a_new_connection);
}
