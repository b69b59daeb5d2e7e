//! Servers that can be part of a control group, on loopback, and nothing else. What each was told is noted, with the
//! time; they can be cut off from each other.
#![allow(dead_code, reason = "each file of tests uses a part of it")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use crucial_control::journal::FileSync;
use crucial_control::{Config, Group, GroupError, Identity, Member, Timing};
use crucial_node::replication::{Grant, Incarnation, NodeId, View};
use crucial_proto::frame::{self, peer};

pub const PATIENCE: Duration = Duration::from_secs(30);
pub const LEASE_MS: u64 = 500;

/// What a server was told, and when.
#[derive(Default)]
pub struct Told {
    pub views: Vec<(Instant, Arc<View>)>,
    /// The incarnation and the end of each lease.
    pub leases: Vec<(Incarnation, Instant)>,
    pub incarnations: Vec<Incarnation>,
    pub evictions: usize,
    pub failed: Option<GroupError>,
}

pub struct Notes {
    started: Instant,
    pub told: Mutex<Told>,
}

impl Notes {
    pub fn new() -> Arc<Notes> {
        Arc::new(Notes {
            started: Instant::now(),
            told: Mutex::default(),
        })
    }
}

impl Member for Notes {
    fn on_cluster(&self, _: u64) {}

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn on_view(&self, view: Arc<View>) {
        let now = Instant::now();
        self.told.lock().unwrap().views.push((now, view));
    }

    fn on_grant(&self, grant: Grant) {
        let until = self.started + Duration::from_millis(grant.sent_ms + LEASE_MS);
        let mut told = self.told.lock().unwrap();
        let incarnation = *told.incarnations.last().unwrap();
        told.leases.push((incarnation, until));
    }

    fn on_evicted(&self) {
        self.told.lock().unwrap().evictions += 1;
    }

    fn on_begin(&self, incarnation: Incarnation) {
        self.told.lock().unwrap().incarnations.push(incarnation);
    }

    fn on_failure(&self, error: GroupError) {
        self.told.lock().unwrap().failed = Some(error);
    }
}

/// A server.
pub struct Server {
    pub address: String,
    pub node: NodeId,
    pub notes: Arc<Notes>,
    pub group: Arc<Group>,
    /// From whom it hears nothing.
    pub cut: Arc<Mutex<BTreeSet<u64>>>,
}

pub fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Takes a place again that a server had before.
pub fn listen_again(address: &str) -> TcpListener {
    let started = Instant::now();
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return listener,
            Err(error) => assert!(started.elapsed() < PATIENCE, "{address}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn config(directory: &Path, address: &str, join: &[String]) -> Config {
    Config {
        directory: directory.to_owned(),
        address: address.to_owned(),
        join: join.to_vec(),
        expect: None,
        partitions: 8,
        timing: Timing::of_lease(LEASE_MS),
        join_patience: PATIENCE,
        sync: FileSync::default(),
    }
}

impl Server {
    /// Begins; it may not be a member yet.
    pub fn begin(directory: &Path, listener: TcpListener, join: &[String]) -> Server {
        Server::begin_on(directory, listener, join, FileSync::default())
    }

    /// The same, on a disk that is synced in this way.
    pub fn begin_on(
        directory: &Path,
        listener: TcpListener,
        join: &[String],
        sync: FileSync,
    ) -> Server {
        let identity = Identity::open(directory).unwrap();
        let (node, notes) = (identity.node(), Notes::new());
        let address = listener.local_addr().unwrap().to_string();
        let config = Config {
            sync,
            ..config(directory, &address, join)
        };
        let group = Arc::new(Group::new(config, identity, notes.clone()).unwrap());
        let cut = Arc::new(Mutex::new(BTreeSet::new()));
        let (weak, cuts) = (Arc::downgrade(&group), cut.clone());
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || accept(&listener, node, &weak, &cuts));
        Server {
            address,
            node,
            notes,
            group,
            cut,
        }
    }

    /// Begins, and is a member.
    pub fn start(directory: &Path, join: &[String]) -> Server {
        let server = Server::begin(directory, listen(), join);
        server.group.wait_until_member().unwrap();
        server
    }

    pub fn told<R>(&self, look: impl FnOnce(&Told) -> R) -> R {
        look(&self.notes.told.lock().unwrap())
    }

    pub fn view(&self) -> Option<Arc<View>> {
        self.told(|told| told.views.last().map(|(_, view)| view.clone()))
    }

    pub fn members(&self) -> usize {
        self.view().map_or(0, |view| view.members.len())
    }

    pub fn incarnation(&self) -> Incarnation {
        self.told(|told| *told.incarnations.last().unwrap())
    }

    /// Nobody hears of it any more. What it was told stays.
    pub fn die(self) -> Arc<Notes> {
        self.group.stop();
        self.notes
    }
}

fn accept(
    listener: &TcpListener,
    node: NodeId,
    group: &Weak<Group>,
    cut: &Arc<Mutex<BTreeSet<u64>>>,
) {
    // Until the server is gone; then the port is free.
    while group.strong_count() > 0 {
        match listener.accept() {
            Ok((stream, _)) => {
                let (group, cut) = (group.clone(), cut.clone());
                stream.set_nonblocking(false).unwrap();
                stream
                    .set_read_timeout(Some(Duration::from_millis(100)))
                    .unwrap();
                std::thread::spawn(move || serve(stream, node, &group, &cut));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn serve(mut stream: TcpStream, node: NodeId, group: &Weak<Group>, cut: &Mutex<BTreeSet<u64>>) {
    let mut buffer = BytesMut::new();
    let mut scratch = [0; 65536];
    let mut hello = None;
    loop {
        while let Ok(Some(frame)) = frame::split(&mut buffer, 1 << 30) {
            let Some(group) = group.upgrade() else { return };
            take(&mut stream, node, &group, cut, &mut hello, frame);
        }
        match stream.read(&mut scratch) {
            Ok(0) => return,
            Ok(count) => buffer.extend_from_slice(&scratch[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if group.strong_count() == 0 {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

fn take(
    stream: &mut TcpStream,
    node: NodeId,
    group: &Group,
    cut: &Mutex<BTreeSet<u64>>,
    hello: &mut Option<peer::Hello>,
    frame: bytes::Bytes,
) {
    match (peer::decode_frame(frame), &hello) {
        (
            Ok(peer::Frame::Hello {
                hello: Some(said), ..
            }),
            _,
        ) => {
            *hello = Some(said);
            let welcome = peer::Welcome {
                cluster: group.cluster(),
                node: node.0,
                incarnation: group.incarnation().0,
                frame_bytes_max: 1 << 30,
            };
            let mut bytes = Vec::new();
            peer::write_welcome(&welcome, &mut bytes).unwrap();
            let _ = stream.write_all(&bytes);
        }
        (Ok(peer::Frame::Ask { id, body }), Some(hello)) => {
            if cut.lock().unwrap().contains(&hello.from) {
                return;
            }
            let mut answers = stream.try_clone().unwrap();
            let answer = move |body: Vec<u8>| {
                let mut bytes = Vec::new();
                peer::write_answer(id, &body, &mut bytes).unwrap();
                let _ = answers.write_all(&bytes);
            };
            group.on_request(hello, body, Box::new(answer));
        }
        other => panic!("{other:?}"),
    }
}

pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Starts this number of servers at once with a seed list, until all are members and the right ones vote.
pub fn cluster(directory: &Path, count: usize) -> Vec<Server> {
    let places: Vec<_> = (0..count).map(|_| listen()).collect();
    start_at(directory, places)
}

pub fn start_at(directory: &Path, places: Vec<TcpListener>) -> Vec<Server> {
    let address = |place: &TcpListener| place.local_addr().unwrap().to_string();
    let seeds: Vec<_> = places.iter().map(address).collect();
    let servers: Vec<_> = places
        .into_iter()
        .enumerate()
        .map(|(index, place)| Server::begin(&directory.join(index.to_string()), place, &seeds))
        .collect();
    for server in &servers {
        server.group.wait_until_member().unwrap();
    }
    settled(&servers);
    servers
}

/// Waits until all are members, and as many vote as are to.
pub fn settled(servers: &[Server]) {
    let count = servers.len();
    let voters = match count {
        0..3 => 1,
        3..5 => 3,
        _ => 5,
    };
    wait_until("all are members", || {
        servers.iter().all(|server| server.members() == count)
    });
    wait_until("those vote that are to", || {
        let mut all = servers.iter().map(|server| server.group.status());
        all.all(|status| status.voters.len() == voters)
    });
}

/// The place of the server that leads.
pub fn leader(servers: &[Server]) -> usize {
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

/// Nobody hears this one, and it hears nobody.
pub fn cut_off(servers: &[Server], place: usize) {
    let node = servers[place].node.0;
    for server in servers {
        let mut cut = server.cut.lock().unwrap();
        match server.node.0 == node {
            true => cut.extend(servers.iter().map(|other| other.node.0)),
            false => drop(cut.insert(node)),
        }
    }
}

/// All hear each other.
pub fn mend(servers: &[Server]) {
    for server in servers {
        server.cut.lock().unwrap().clear();
    }
}

/// Checks that no incarnation of a node had a lease when any server knew of the incarnation's end, that is, had a view
/// with a later incarnation of the node, or without the node after a view with it.
pub fn leases_had_ended(all: &[&Notes], node: NodeId, leases: &[(Incarnation, Instant)]) {
    for notes in all {
        let mut last = None;
        for (seen, view) in &notes.told.lock().unwrap().views {
            let incarnation = view.members.get(&node).map(|member| member.incarnation);
            if incarnation != last {
                let ended = leases
                    .iter()
                    .filter(|(of, _)| last.is_some_and(|last| *of <= last));
                for (of, until) in ended {
                    assert!(
                        seen >= until,
                        "{node} had a lease in incarnation {of:?} for {:?} after it had ended",
                        *until - *seen
                    );
                }
            }
            last = incarnation.or(last);
        }
    }
}
