//! Control groups on slow disks.

mod harness;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crucial_control::journal::FileSync;
use crucial_node::replication::{Assignment, Command};

use harness::*;

/// How long a slow disk takes for a sync: four leases.
const SYNC: Duration = Duration::from_millis(4 * LEASE_MS);

/// A disk that can be slow.
#[derive(Default)]
struct Disk {
    is_slow: AtomicBool,
    /// How many syncs have been slow.
    syncs: AtomicUsize,
}

impl Disk {
    fn sync(self: &Arc<Disk>) -> FileSync {
        let disk = self.clone();
        FileSync::new(move |file| {
            file.sync_data()?;
            if disk.is_slow.load(Ordering::Relaxed) {
                disk.syncs.fetch_add(1, Ordering::Relaxed);
                // What the test is about.
                std::thread::sleep(SYNC);
            }
            Ok(())
        })
    }
}

/// Has the partitions' primaries change, so that there is something to decide.
fn propose(servers: &[Server], proposer: usize) {
    let Some(view) = servers[proposer].view() else {
        return;
    };
    let commands = view.partitions().filter_map(|partition| {
        let configuration = view.configuration(partition);
        let next = |node| view.members.range(node..).nth(1);
        let (node, member) = next(configuration.primary()?).or(view.members.first_key_value())?;
        let assignment = Assignment {
            rank: 0,
            node: *node,
        };
        Some(Command::Reconfigure {
            partition,
            epoch: configuration.epoch,
            assignments: vec![(assignment, member.incarnation)],
        })
    });
    servers[proposer].group.propose(commands.collect());
}

#[test]
fn a_slow_disk_of_one_voter_ends_no_membership_and_holds_up_no_decision() {
    let directory = tempfile::tempdir().unwrap();
    let disks: Vec<Arc<Disk>> = (0..3).map(|_| Arc::default()).collect();
    let places: Vec<_> = (0..3).map(|_| listen()).collect();
    let address = |place: &std::net::TcpListener| place.local_addr().unwrap().to_string();
    let seeds: Vec<_> = places.iter().map(address).collect();
    let servers: Vec<_> = places
        .into_iter()
        .enumerate()
        .map(|(index, place)| {
            let directory = directory.path().join(index.to_string());
            Server::begin_on(&directory, place, &seeds, disks[index].sync())
        })
        .collect();
    for server in &servers {
        server.group.wait_until_member().unwrap();
    }
    settled(&servers);
    let leads = leader(&servers);
    let slow = (leads + 1) % 3;
    disks[slow].is_slow.store(true, Ordering::Relaxed);
    let mut seen = BTreeSet::new();
    wait_until("the slow disk has been synced", || {
        propose(&servers, leads);
        disks[slow].syncs.load(Ordering::Relaxed) > 0
    });
    let started = Instant::now();
    while disks[slow].syncs.load(Ordering::Relaxed) < 3 {
        assert!(started.elapsed() < PATIENCE, "the slow disk is not synced");
        propose(&servers, leads);
        seen.extend(servers[leads].view().map(|view| view.version));
        for server in &servers {
            let until = server.told(|told| told.leases.last().map(|(_, until)| *until));
            let until = until.expect("a lease");
            // A machine with other things to do may be late with a heartbeat, but not for as long as the disk.
            let without = Instant::now().saturating_duration_since(until);
            assert!(
                without < Duration::from_millis(LEASE_MS / 2),
                "{} has no lease for {without:?}, {:?} after the first slow sync",
                server.node,
                started.elapsed()
            );
        }
        // The lease is read again and again while the slow syncs go on; an end of it is no event.
        std::thread::sleep(Duration::from_millis(5));
    }
    // Many decisions for each slow sync.
    assert!(seen.len() > 20, "only {} views", seen.len());
    for server in &servers {
        assert_eq!(server.told(|told| told.evictions), 0);
    }
}
