//! Groups of servers on loopback: they form, lose their leader, take each other for dead only when leases have ended.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use crucial_control::journal::FileSync;
use crucial_control::{Config, Group, GroupError, Identity, Member, Timing};
use crucial_node::replication::{Command, Grant, Incarnation, NodeId, PartitionId, View};
use crucial_proto::frame::{self, peer};

const PATIENCE: Duration = Duration::from_secs(30);
const LEASE_MS: u64 = 600;

/// What a server was told.
#[derive(Default)]
struct Told {
    view: Option<Arc<View>>,
    grants: Vec<(Grant, Instant)>,
    incarnations: Vec<Incarnation>,
    evictions: usize,
}

struct Notes {
    started: Instant,
    told: Mutex<Told>,
}

impl Member for Notes {
    fn on_cluster(&self, _: u64) {}

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn on_view(&self, view: Arc<View>) {
        self.told.lock().unwrap().view = Some(view);
    }

    fn on_grant(&self, grant: Grant) {
        let asked = self.started + Duration::from_millis(grant.sent_ms);
        self.told.lock().unwrap().grants.push((grant, asked));
    }

    fn on_evicted(&self) {
        self.told.lock().unwrap().evictions += 1;
    }

    fn on_begin(&self, incarnation: Incarnation) {
        self.told.lock().unwrap().incarnations.push(incarnation);
    }

    fn on_failure(&self, error: GroupError) {
        eprintln!("{error}");
    }
}

/// A server that can be part of a group, and nothing else.
struct Server {
    address: String,
    node: NodeId,
    notes: Arc<Notes>,
    group: Arc<Group>,
    /// Messages of this server do not reach it.
    deaf_to: Arc<AtomicU64>,
}

fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

impl Server {
    fn new(
        directory: &Path,
        (listener, address): (TcpListener, String),
        join: &[String],
    ) -> Server {
        let identity = Identity::open(directory).unwrap();
        let node = identity.node();
        let notes = Arc::new(Notes {
            started: Instant::now(),
            told: Mutex::default(),
        });
        let config = Config {
            directory: directory.to_owned(),
            address: address.clone(),
            join: join.to_vec(),
            expect: None,
            partitions: 8,
            timing: Timing::of_lease(LEASE_MS),
            join_patience: PATIENCE,
            sync: FileSync::default(),
        };
        let group = Arc::new(Group::new(config, identity, notes.clone()).unwrap());
        let deaf_to = Arc::new(AtomicU64::new(0));
        let (theirs, is_deaf) = (Arc::downgrade(&group), deaf_to.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (group, is_deaf) = (theirs.clone(), is_deaf.clone());
                if group.upgrade().is_none() {
                    return;
                }
                std::thread::spawn(move || serve(stream, node, &group, &is_deaf));
            }
        });
        Server {
            address,
            node,
            notes,
            group,
            deaf_to,
        }
    }

    fn start(directory: &Path, join: &[String]) -> Server {
        let server = Server::new(directory, listen(), join);
        server.group.wait_until_member().unwrap();
        server
    }

    fn told<R>(&self, look: impl FnOnce(&Told) -> R) -> R {
        look(&self.notes.told.lock().unwrap())
    }

    fn members(&self) -> usize {
        self.told(|told| told.view.as_ref().map_or(0, |view| view.members.len()))
    }

    /// Nobody hears of it any more.
    fn die(self) {
        self.group.stop();
    }
}

fn serve(mut stream: TcpStream, node: NodeId, group: &Weak<Group>, deaf_to: &AtomicU64) {
    let mut buffer = BytesMut::new();
    let mut scratch = [0; 65536];
    let hello = OnceLock::new();
    loop {
        while let Ok(Some(frame)) = frame::split(&mut buffer, 1 << 30) {
            let Some(group) = group.upgrade() else { return };
            match peer::decode_frame(frame) {
                Ok(peer::Frame::Hello {
                    hello: Some(said), ..
                }) => {
                    let _ = hello.set(said);
                    let welcome = peer::Welcome {
                        cluster: group.cluster(),
                        node: node.0,
                        incarnation: 0,
                        frame_bytes_max: 1 << 30,
                    };
                    let mut bytes = Vec::new();
                    peer::write_welcome(&welcome, &mut bytes).unwrap();
                    let _ = stream.write_all(&bytes);
                }
                Ok(peer::Frame::Ask { id, body }) => {
                    let deaf_to = deaf_to.load(Ordering::Relaxed);
                    if hello
                        .get()
                        .is_some_and(|hello: &peer::Hello| hello.from == deaf_to)
                    {
                        continue;
                    }
                    let mut answers = stream.try_clone().unwrap();
                    let answer = move |body: Vec<u8>| {
                        let mut bytes = Vec::new();
                        peer::write_answer(id, &body, &mut bytes).unwrap();
                        let _ = answers.write_all(&bytes);
                    };
                    if let Some(hello) = hello.get() {
                        group.on_request(hello, body, Box::new(answer));
                    }
                }
                _ => {}
            }
        }
        match stream.read(&mut scratch) {
            Ok(count) if count > 0 => buffer.extend_from_slice(&scratch[..count]),
            _ => return,
        }
    }
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Three servers, started at once by a seed list.
fn three(directory: &Path) -> Vec<Server> {
    let places: Vec<_> = (0..3).map(|_| listen()).collect();
    let seeds: Vec<_> = places.iter().map(|(_, address)| address.clone()).collect();
    let servers: Vec<_> = places
        .into_iter()
        .enumerate()
        .map(|(index, place)| Server::new(&directory.join(index.to_string()), place, &seeds))
        .collect();
    for server in &servers {
        server.group.wait_until_member().unwrap();
    }
    wait_until("three members", || {
        servers.iter().all(|server| server.members() == 3)
    });
    wait_until("three voters", || {
        servers
            .iter()
            .all(|server| server.group.status().voters.len() == 3)
    });
    servers
}

/// The place of the server that leads.
fn leader(servers: &[Server]) -> usize {
    let started = Instant::now();
    loop {
        let leader = servers[0].group.status().leader;
        let place = servers
            .iter()
            .position(|server| Some(server.node) == leader);
        if let Some(place) = place {
            return place;
        }
        assert!(started.elapsed() < PATIENCE, "nobody leads");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_group_forms_by_a_seed_list_and_all_have_leases() {
    let directory = tempfile::tempdir().unwrap();
    let servers = three(directory.path());
    wait_until("leases", || {
        servers
            .iter()
            .all(|server| server.told(|told| told.grants.len() > 2))
    });
    let cluster = servers[0].group.cluster();
    assert_ne!(cluster, 0);
    assert!(
        servers
            .iter()
            .all(|server| server.group.cluster() == cluster)
    );
}

#[test]
fn a_leader_that_dies_is_expired_after_its_lease_and_comes_back_in_another_incarnation() {
    let directory = tempfile::tempdir().unwrap();
    let mut servers = three(directory.path());
    let place = leader(&servers);
    let seeds: Vec<_> = servers
        .iter()
        .map(|server| server.address.clone())
        .collect();
    let dead = servers.remove(place);
    let (node, notes) = (dead.node, dead.notes.clone());
    dead.die();
    wait_until("it is expired", || {
        servers.iter().all(|server| server.members() == 2)
    });
    let expired = Instant::now();
    let last = notes
        .told
        .lock()
        .unwrap()
        .grants
        .iter()
        .map(|(_, asked)| *asked)
        .max()
        .unwrap();
    assert!(
        expired.duration_since(last) >= Duration::from_millis(LEASE_MS),
        "expired {:?} after its last lease began",
        expired.duration_since(last)
    );
    wait_until("one voter of two servers", || {
        servers
            .iter()
            .all(|server| server.group.status().voters.len() == 1)
    });
    let again = Server::start(&directory.path().join(place.to_string()), &seeds);
    assert_eq!(again.node, node);
    wait_until("it is back", || {
        servers.iter().all(|server| server.members() == 3)
    });
    let incarnation = |view: &View| view.members[&node].incarnation;
    assert!(servers[0].told(|told| incarnation(told.view.as_ref().unwrap())) > Incarnation(1));
}

#[test]
fn a_server_that_was_not_heard_begins_another_incarnation_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let servers = three(directory.path());
    let place = (leader(&servers) + 1) % 3;
    let (node, stays) = (servers[place].node, (place + 1) % 3);
    let deafen = |to: u64| {
        for server in servers.iter().filter(|server| server.node != node) {
            server.deaf_to.store(to, Ordering::Relaxed);
        }
    };
    deafen(node.0);
    wait_until("it is over", || {
        servers[place].told(|told| told.evictions > 0)
    });
    deafen(0);
    wait_until("three members again", || {
        servers[stays].told(|told| {
            let view = told.view.as_ref().unwrap();
            view.members
                .get(&node)
                .is_some_and(|member| member.incarnation > Incarnation(1))
        })
    });
    // Whoever was expired meanwhile was told, and is a member in a later incarnation.
    for server in &servers {
        let (evictions, incarnations) =
            server.told(|told| (told.evictions, told.incarnations.len()));
        assert_eq!(
            incarnations,
            evictions + 1,
            "each incarnation but the first follows an eviction"
        );
    }
}

#[test]
fn who_leaves_is_dismissed_when_it_holds_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let servers = three(directory.path());
    let place = leader(&servers);
    let node = servers[place].node;
    servers[place].group.leave();
    let stays = (place + 1) % 3;
    wait_until("it is said to leave", || {
        servers[stays].told(|told| {
            told.view
                .as_ref()
                .is_some_and(|view| view.members.get(&node).is_none_or(|member| member.leaving))
        })
    });
    // Whoever was given the partitions by the first server hands them over, as their primaries would.
    wait_until("it is dismissed", || {
        let view = servers[stays].told(|told| told.view.clone()).unwrap();
        let to = servers[stays].node;
        let commands = view.partitions().filter_map(|partition: PartitionId| {
            let configuration = view.configuration(partition);
            let assignment = crucial_node::replication::Assignment { rank: 0, node: to };
            (configuration.primary() == Some(node)).then(|| Command::Reconfigure {
                partition,
                epoch: configuration.epoch,
                assignments: vec![(assignment, view.members[&to].incarnation)],
            })
        });
        servers[stays].group.propose(commands.collect());
        servers[place]
            .group
            .wait_until_left(Duration::from_millis(50))
    });
    wait_until("two members", || servers[stays].members() == 2);
}

#[test]
fn clusters_do_not_mix_and_nobody_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (directory.path().join("one"), directory.path().join("other"));
    let first = Server::start(&one, &[]);
    let second = Server::start(&other, &[]);
    assert_ne!(first.group.cluster(), second.group.cluster());
    let third = directory.path().join("third");
    let joined = Server::start(&third, std::slice::from_ref(&first.address));
    joined.die();
    // The journal knows its cluster, but a directory without one goes by what it is told.
    std::fs::remove_file(third.join("journal")).unwrap();
    let wrong = Server::new(&third, listen(), std::slice::from_ref(&second.address));
    let error = wrong.group.wait_until_member().unwrap_err();
    assert!(
        matches!(error, GroupError::AnotherCluster { .. }),
        "{error}"
    );
}

#[test]
fn nobody_at_the_address_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let (listener, address) = listen();
    let identity = Identity::open(directory.path()).unwrap();
    let notes = Arc::new(Notes {
        started: Instant::now(),
        told: Mutex::default(),
    });
    let config = Config {
        directory: directory.path().to_owned(),
        address,
        join: vec!["127.0.0.1:1".to_owned()],
        expect: None,
        partitions: 8,
        timing: Timing::of_lease(LEASE_MS),
        join_patience: Duration::from_millis(300),
        sync: FileSync::default(),
    };
    let group = Group::new(config, identity, notes).unwrap();
    let error = group.wait_until_member().unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:1"), "{error}");
    drop(listener);
}
