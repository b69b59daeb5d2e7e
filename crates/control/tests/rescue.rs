//! Control groups that have lost most of their voters for ever.

mod harness;

use std::sync::mpsc;

use crucial_control::GroupError;
use crucial_control::rescue::rescue;
use crucial_node::replication::{NodeId, View};
use crucial_proto::frame::peer;

use harness::*;

/// Whether the server has had a lease since it was asked.
fn await_leases(servers: &[&Server]) {
    for server in servers {
        let before = server.told(|told| told.leases.len());
        wait_until("a lease", || {
            server.told(|told| told.leases.len()) > before + 1
        });
    }
}

fn is_primary_of_all(view: &View, node: NodeId) -> bool {
    view.partitions()
        .all(|partition| view.primary(partition) == Some(node))
}

#[test]
fn the_only_server_that_is_left_goes_on_in_a_new_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let mut servers = cluster(directory.path(), 3);
    let old = servers[0].group.cluster();
    let left = servers.pop().unwrap();
    let incarnation = left.incarnation();
    let places: Vec<_> = servers
        .iter()
        .map(|server| server.address.clone())
        .collect();
    for server in servers {
        server.die();
    }
    // First only in words.
    let warning = rescue(&left.address, false).unwrap();
    assert_eq!((warning.cluster, warning.rescued), (old, 0));
    assert_eq!(warning.survivors, [(left.node.0, left.address.clone())]);
    assert_eq!((warning.lost.len(), warning.partitions), (2, 8));
    assert_eq!(left.group.cluster(), old);
    let done = rescue(&left.address, true).unwrap();
    assert_ne!(done.rescued, old);
    assert_eq!(left.group.cluster(), done.rescued);
    await_leases(&[&left]);
    // The server was not restarted, so that its objects are there.
    assert_eq!(left.told(|told| told.incarnations.clone()), [incarnation]);
    let view = left.view().unwrap();
    assert!(view.has(left.node, incarnation) && view.members.len() == 1);
    assert!(is_primary_of_all(&view, left.node));
    assert!(view.configurations.iter().all(|one| one.is_amnesic()));
    // New servers join, and have a say.
    let seeds = [left.address.clone()];
    let second = Server::start(&directory.path().join("second"), &seeds);
    let third = Server::start(&directory.path().join("third"), &seeds);
    let all = [left, second, third];
    settled(&all);
    // The old ones have no part in it.
    let again = Server::begin(
        &directory.path().join("0"),
        listen_again(&places[0]),
        &seeds,
    );
    let error = again.group.wait_until_member().unwrap_err();
    assert!(
        matches!(error, GroupError::AnotherCluster { own, theirs, .. } if (own, theirs) == (old, done.rescued)),
        "{error}"
    );
    assert!(error.to_string().contains("was rescued"), "{error}");
    again.die();
    // Neither do two of them together, which have a majority of the old group.
    let old_ones: Vec<_> = places
        .iter()
        .enumerate()
        .map(|(index, address)| {
            let directory = directory.path().join(index.to_string());
            Server::begin(&directory, listen_again(address), &places)
        })
        .collect();
    for server in &old_ones {
        server.group.wait_until_member().unwrap();
        assert_eq!(server.group.cluster(), old);
    }
    let members: Vec<_> = all[0].view().unwrap().members.keys().copied().collect();
    assert!(
        old_ones
            .iter()
            .all(|server| !members.contains(&server.node))
    );
    await_leases(&[&all[0], &all[1], &all[2]]);
    // A restart goes on in the new cluster.
    let [left, ..] = all;
    let (node, address) = (left.node, left.address.clone());
    left.die();
    let again = Server::begin(
        &directory.path().join("2"),
        listen_again(&address),
        std::slice::from_ref(&address),
    );
    again.group.wait_until_member().unwrap();
    assert_eq!((again.node, again.group.cluster()), (node, done.rescued));
}

#[test]
fn a_group_with_a_majority_is_not_rescued() {
    let directory = tempfile::tempdir().unwrap();
    let mut servers = cluster(directory.path(), 3);
    let old = servers[0].group.cluster();
    servers.pop().unwrap().die();
    // One is dead, and for a while it has a vote.
    let refused = rescue(&servers[0].address, true).unwrap_err();
    assert!(refused.contains("a majority"), "{refused}");
    wait_until("it is expired", || servers[0].members() == 2);
    let refused = rescue(&servers[1].address, true).unwrap_err();
    assert!(refused.contains("refused"), "{refused}");
    await_leases(&[&servers[0], &servers[1]]);
    assert!(servers.iter().all(|server| server.group.cluster() == old));
}

#[test]
fn other_servers_that_are_left_are_taken_along() {
    let directory = tempfile::tempdir().unwrap();
    let mut servers = cluster(directory.path(), 5);
    let left = servers.split_off(3);
    for server in servers {
        server.die();
    }
    let incarnations: Vec<_> = left.iter().map(Server::incarnation).collect();
    // At the one that knows more, if one does.
    let done = rescue(&left[0].address, true).or_else(|refused| {
        assert!(refused.contains("later decisions"), "{refused}");
        rescue(&left[1].address, true)
    });
    let done = done.unwrap();
    assert_eq!((done.survivors.len(), done.lost.len()), (2, 3));
    wait_until("both are in the new cluster", || {
        left.iter()
            .all(|server| server.group.cluster() == done.rescued && server.members() == 2)
    });
    await_leases(&[&left[0], &left[1]]);
    for (server, incarnation) in left.iter().zip(incarnations) {
        assert_eq!(server.told(|told| told.incarnations.clone()), [incarnation]);
        assert!(server.view().unwrap().has(server.node, incarnation));
    }
}

#[test]
fn a_server_goes_along_only_with_a_server_that_answers() {
    let directory = tempfile::tempdir().unwrap();
    let mut servers = cluster(directory.path(), 3);
    let left = servers.pop().unwrap();
    let (sender, address) = (servers[0].node.0, servers[0].address.clone());
    for server in servers {
        server.die();
    }
    let cluster = left.group.cluster();
    let hello = peer::Hello {
        cluster,
        from: sender,
        incarnation: 1,
        to: None,
    };
    // `Request::Adopt` of the cluster 5 by a server at this address, which is dead.
    let mut request = vec![7, 5, address.len() as u8];
    request.extend(address.as_bytes());
    let (respond, response) = mpsc::channel();
    let respond = move |bytes: Vec<u8>| drop(respond.send(bytes));
    left.group
        .on_request(&hello, request.into(), Box::new(respond));
    let response = response.recv_timeout(PATIENCE).unwrap();
    let response = String::from_utf8_lossy(&response);
    assert!(response.contains("does not answer at"), "{response}");
    assert_eq!(left.group.cluster(), cluster);
    // The operator still can rescue it.
    rescue(&left.address, true).unwrap();
    await_leases(&[&left]);
}

#[test]
fn of_two_servers_only_one_is_rescued() {
    let directory = tempfile::tempdir().unwrap();
    let mut servers = cluster(directory.path(), 3);
    servers.pop().unwrap().die();
    // The two do not hear each other, and each takes the other one for lost.
    cut_off(&servers, 0);
    let done = rescue(&servers[0].address, true).unwrap();
    mend(&servers);
    let refused = rescue(&servers[1].address, true).unwrap_err();
    let named = format!("has gone on in the cluster {:016x}", done.rescued);
    assert!(refused.contains(&named), "{refused}");
    await_leases(&[&servers[0]]);
    assert_eq!(servers[0].members(), 1);
}
