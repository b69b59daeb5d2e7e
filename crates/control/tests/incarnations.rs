//! Control groups whose servers die, are cut off, return, leave, or have the identity of another server.

mod harness;

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crucial_control::blobs::module_id;
use crucial_control::{Group, GroupError, Identity};
use crucial_node::replication::{Assignment, Command, Incarnation, NodeId, PartitionId, View};
use crucial_proto::frame::peer;

use harness::*;

/// Gives each partition to a server, if it has another primary.
fn hand_to(view: &View, node: NodeId) -> Vec<Command> {
    let Some(member) = view.members.get(&node) else {
        return Vec::new();
    };
    let to_give = |partition: &PartitionId| view.primary(*partition) != Some(node);
    let partitions = view.partitions().filter(to_give);
    partitions
        .map(|partition| Command::Reconfigure {
            partition,
            epoch: view.configuration(partition).epoch,
            assignments: vec![(Assignment { rank: 0, node }, member.incarnation)],
        })
        .collect()
}

/// Proposes it, as often as it takes.
fn hand_all_to(servers: &[Server], proposer: usize, node: NodeId) {
    wait_until("one has all partitions", || {
        let view = servers[proposer].view().unwrap();
        let commands = hand_to(&view, node);
        let is_done = commands.is_empty();
        servers[proposer].group.propose(commands);
        is_done
    });
}

#[test]
fn an_expired_server_has_no_lease() {
    let directory = tempfile::tempdir().unwrap();
    let servers = cluster(directory.path(), 3);
    // About as long as a lease and a heartbeat: some are late for their end, and some just in time.
    for round in 0..4 {
        let place = (leader(&servers) + round) % 3;
        cut_off(&servers, place);
        std::thread::sleep(Duration::from_millis(LEASE_MS + 40 * round as u64));
        mend(&servers);
        settled(&servers);
    }
    // And until it is decided: of one that leads, and of one that does not.
    for round in 0..2 {
        let place = (leader(&servers) + round) % 3;
        cut_off(&servers, place);
        wait_until("its end is decided", || {
            let ended = |server: &Server| server.members() == 2;
            servers.iter().filter(|server| ended(server)).count() >= 2
        });
        mend(&servers);
        settled(&servers);
    }
    let notes: Vec<_> = servers.iter().map(|server| &*server.notes).collect();
    for server in &servers {
        let leases = server.told(|told| told.leases.clone());
        assert!(!leases.is_empty());
        leases_had_ended(&notes, server.node, &leases);
        let (evictions, incarnations) =
            server.told(|told| (told.evictions, told.incarnations.clone()));
        assert_eq!(incarnations.len(), evictions + 1);
        assert!(incarnations.is_sorted_by(|one, next| one < next));
    }
}

#[test]
fn proposals_are_committed_when_the_leader_dies() {
    let directory = tempfile::tempdir().unwrap();
    let mut servers = cluster(directory.path(), 3);
    hand_all_to(&servers, 0, servers[0].node);
    let dead = servers.remove(leader(&servers));
    let (node, notes) = (dead.node, dead.die());
    let to = servers[1].node;
    hand_all_to(&servers, 0, to);
    wait_until("it is expired", || {
        servers.iter().all(|server| server.members() == 2)
    });
    let leases = notes.told.lock().unwrap().leases.clone();
    let others: Vec<_> = servers.iter().map(|server| &*server.notes).collect();
    leases_had_ended(&others, node, &leases);
}

/// Has a module of these bytes kept. The group has its hash only.
fn keep_module(server: &Server, module: &[u8]) {
    let id = module_id(module);
    wait_until("the module is kept", || {
        let view = server.view().unwrap();
        let keep = Command::Keep {
            id,
            size: module.len() as u64,
            replace: false,
            seen: view.version,
            node: server.node,
            incarnation: server.incarnation(),
        };
        server.group.propose(vec![keep]);
        !view.modules.is_empty()
    });
}

#[test]
fn a_stopped_cluster_continues_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let servers = cluster(directory.path(), 3);
    let module = vec![7; 1 << 20];
    keep_module(&servers[1], &module);
    let journal = std::fs::metadata(directory.path().join("0/journal")).unwrap();
    assert!(journal.len() < module.len() as u64);
    let (cluster, version) = (
        servers[0].group.cluster(),
        servers[0].view().unwrap().version,
    );
    let before: Vec<_> = servers
        .into_iter()
        .map(|server| {
            let (address, incarnation) = (server.address.clone(), server.incarnation());
            server.die();
            (address, incarnation)
        })
        .collect();
    let places = before.iter().map(|(address, _)| listen_again(address));
    let servers = start_at(directory.path(), places.collect());
    for (server, (_, incarnation)) in servers.iter().zip(before) {
        assert!(server.incarnation() > incarnation);
        assert_eq!(server.group.cluster(), cluster);
        let view = server.view().unwrap();
        assert!(view.version > version);
        let ids: Vec<_> = view.modules.iter().map(|kept| kept.id).collect();
        assert_eq!(ids, [module_id(&module)]);
    }
}

#[test]
fn a_leaving_leader_hands_over_its_vote_first() {
    let directory = tempfile::tempdir().unwrap();
    let mut servers = cluster(directory.path(), 2);
    let place = leader(&servers);
    let stays = 1 - place;
    let to = servers[stays].node;
    // A server that holds nothing is dismissed as soon as it leaves, which is before its vote passes to another one.
    hand_all_to(&servers, stays, to);
    servers[place].group.leave();
    assert!(servers[place].group.wait_until_left(PATIENCE));
    let left = servers.remove(place);
    assert_eq!(left.told(|told| told.evictions), 0);
    left.die();
    // The other decides without it.
    let third = Server::start(
        &directory.path().join("third"),
        &[servers[0].address.clone()],
    );
    wait_until("two members", || third.members() == 2);
    assert_eq!(third.group.status().voters, [to]);
}

#[test]
fn a_late_member_gets_a_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let first = Server::start(&directory.path().join("first"), &[]);
    let applied = first.group.status().applied;
    first.group.compact();
    wait_until("its log is gone", || first.group.status().purged >= applied);
    let seeds = [first.address.clone()];
    let second = Server::start(&directory.path().join("second"), &seeds);
    assert!(second.group.status().purged >= applied);
    assert_eq!(second.members(), 2);
    // The server has written its identity down.
    let (address, incarnation) = (second.address.clone(), second.incarnation());
    second.die();
    let listener = listen_again(&address);
    let second = Server::begin(&directory.path().join("second"), listener, &[]);
    second.group.wait_until_member().unwrap();
    assert!(second.incarnation() > incarnation);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in ["identity", "journal"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

#[test]
fn the_same_identity_twice_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let first = Server::start(&path("first"), &[]);
    let seeds = [first.address.clone()];
    let second = Server::start(&path("second"), &seeds);
    second.die();
    copy(&path("second"), &path("same incarnation"));
    let second = Server::start(&path("second"), &seeds);
    copy(&path("second"), &path("next incarnation"));
    let begin = |name| Server::begin(&path(name), listen(), &seeds);
    for twin in ["same incarnation", "next incarnation"].map(begin) {
        assert_eq!(twin.node, second.node);
        let error = twin.group.wait_until_member().unwrap_err();
        assert!(matches!(error, GroupError::Twice { .. }), "{error}");
        assert!(twin.told(|told| told.leases.is_empty()));
    }
    assert_eq!(second.told(|told| told.evictions), 0);
    let view = first.view().unwrap();
    assert!(view.has(second.node, second.incarnation()));
}

#[test]
fn a_directory_stays_with_its_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let first = Server::start(&path("first"), &[]);
    let other = Server::start(&path("other"), &[]);
    Server::start(&path("second"), std::slice::from_ref(&first.address)).die();
    // Its journal knows its cluster, and still it is told.
    let wrong = Server::begin(
        &path("second"),
        listen(),
        std::slice::from_ref(&other.address),
    );
    let error = wrong.group.wait_until_member().unwrap_err();
    assert!(
        matches!(error, GroupError::AnotherCluster { .. }),
        "{error}"
    );
    wrong.die();
    // Without its journal it knows nobody, and founds no second cluster of the name.
    std::fs::remove_file(path("second").join("journal")).unwrap();
    let lonely = Server::begin(&path("second"), listen(), &[]);
    let error = lonely.group.wait_until_member().unwrap_err();
    assert!(matches!(error, GroupError::Lonely { .. }), "{error}");
    lonely.die();
    // The server may join again, as another one.
    let again = Server::start(&path("second"), std::slice::from_ref(&first.address));
    assert_eq!(again.group.cluster(), first.group.cluster());
}

#[test]
fn a_directory_in_use_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let error = Identity::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("in use by another process"), "{error}");
    assert_eq!(server.members(), 1);
}

/// The group's response to a request.
fn request(group: &Group, hello: &peer::Hello, bytes: Vec<u8>) -> Vec<u8> {
    let (sender, response) = mpsc::channel();
    let send = move |bytes| drop(sender.send(bytes));
    group.on_request(hello, Bytes::from(bytes), Box::new(send));
    response.recv_timeout(PATIENCE).expect("a response")
}

#[test]
fn malformed_and_foreign_requests_get_a_response_and_have_no_effect() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let hello = |cluster| peer::Hello {
        cluster,
        from: 7,
        incarnation: 1,
        to: None,
    };
    let ours = hello(server.group.cluster());
    let mut bytes = 1_u64;
    for length in 0..300 {
        let next = || {
            bytes = bytes
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (bytes >> 56) as u8
        };
        let noise: Vec<u8> = std::iter::repeat_with(next).take(length).collect();
        // Requests of other clusters, and malformed requests of this one.
        request(&server.group, &hello(ours.cluster ^ 1), noise.clone());
        request(&server.group, &hello(0), noise.clone());
        let nothing = [&[0xff; 3][..], &noise].concat();
        request(&server.group, &ours, nothing);
    }
    let before = server.told(|told| told.leases.len());
    wait_until("leases go on", || {
        server.told(|told| told.leases.len() > before)
    });
    assert_eq!(server.incarnation(), Incarnation(1));
}

#[test]
fn a_server_that_stops_does_so_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let servers = cluster(directory.path(), 2);
    for server in servers {
        let started = Instant::now();
        server.die();
        assert!(started.elapsed() < PATIENCE / 2);
    }
}
