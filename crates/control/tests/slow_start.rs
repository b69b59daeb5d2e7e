//! Control groups that begin, or lose their leader, on disks whose every sync takes longer than a lease may.

mod harness;

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crucial_control::journal::FileSync;

use harness::*;

/// The shortest and the longest sync of a slow disk. A lease has `LEASE_MS`.
const SYNC_MS: std::ops::Range<u64> = 300..1500;

/// Within this time a group on slow disks is there, and all have leases: some ten decisions, each of which two disks must
/// have, one after the other.
const START: Duration = Duration::from_secs(30);

/// Within this time a leader on a good disk is replaced, and all have leases of the next one.
const REPLACED: Duration = Duration::from_millis(4 * LEASE_MS);

/// Disks that are slow, or not.
#[derive(Default)]
struct Disks {
    are_slow: AtomicBool,
    syncs: AtomicU64,
}

impl Disks {
    fn sync(self: &Arc<Disks>) -> FileSync {
        let disks = self.clone();
        FileSync::new(move |file| {
            file.sync_data()?;
            if disks.are_slow.load(Ordering::Relaxed) {
                let turn = disks.syncs.fetch_add(1, Ordering::Relaxed) + 1;
                let span = SYNC_MS.end - SYNC_MS.start;
                let pause = SYNC_MS.start + turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) % span;
                // What the test is about.
                std::thread::sleep(Duration::from_millis(pause));
            }
            Ok(())
        })
    }
}

fn begin(directory: &Path, places: Vec<TcpListener>, disks: &Arc<Disks>) -> Vec<Server> {
    let address = |place: &TcpListener| place.local_addr().unwrap().to_string();
    let seeds: Vec<_> = places.iter().map(address).collect();
    let places = places.into_iter().enumerate();
    let begin = |(index, place): (usize, _)| {
        let directory = directory.join(index.to_string());
        Server::begin_on(&directory, place, &seeds, disks.sync())
    };
    places.map(begin).collect()
}

/// The end of a server's last lease.
fn lease_end(server: &Server) -> Option<Instant> {
    server.told(|told| told.leases.last().map(|(_, until)| *until))
}

fn has_lease(server: &Server) -> bool {
    lease_end(server).is_some_and(|until| until > Instant::now())
}

/// How long it takes until all have leases.
fn await_leases(servers: &[Server], started: Instant) -> Duration {
    wait_until("all have leases", || servers.iter().all(has_lease));
    started.elapsed()
}

#[test]
fn a_group_on_slow_disks_begins_and_begins_again() {
    let directory = tempfile::tempdir().unwrap();
    let disks = Arc::<Disks>::default();
    disks.are_slow.store(true, Ordering::Relaxed);
    let started = Instant::now();
    let places = (0..3).map(|_| listen()).collect();
    let servers = begin(directory.path(), places, &disks);
    let leases = await_leases(&servers, started);
    settled(&servers);
    let founded = started.elapsed();
    // All stop at once, as without power.
    let addresses: Vec<_> = servers.iter().map(|one| one.address.clone()).collect();
    for server in servers {
        server.die();
    }
    let places = addresses.iter().map(|one| listen_again(one)).collect();
    let started = Instant::now();
    let servers = begin(directory.path(), places, &disks);
    let again = await_leases(&servers, started);
    // For whoever wants to know, with `--nocapture`.
    println!("leases after {leases:?}, all vote after {founded:?}, leases again after {again:?}");
    assert!(founded < START && again < START);
}

#[test]
fn a_dead_leader_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let disks = Arc::<Disks>::default();
    let places = (0..3).map(|_| listen()).collect();
    let servers = begin(directory.path(), places, &disks);
    await_leases(&servers, Instant::now());
    settled(&servers);
    let mut servers: Vec<_> = servers.into_iter().enumerate().collect();
    for _ in 0..3 {
        let leads = servers[0].1.group.status().leader.unwrap();
        let leads = servers.iter().position(|(_, one)| one.node == leads);
        let (index, leader) = servers.remove(leads.unwrap());
        let (address, node) = (leader.address.clone(), leader.node);
        let died = Instant::now();
        leader.die();
        wait_until("another one leads", || {
            let mut leaders = servers.iter().map(|(_, one)| one.group.status().leader);
            leaders.all(|leader| leader.is_some_and(|leader| leader != node))
        });
        let elected = died.elapsed();
        let ends: Vec<_> = servers.iter().map(|(_, one)| lease_end(one)).collect();
        wait_until("all have leases of it", || {
            let mut all = servers.iter().zip(&ends);
            all.all(|((_, one), end)| lease_end(one) > *end)
        });
        let granted = died.elapsed();
        println!("another one leads after {elected:?}, and grants leases after {granted:?}");
        assert!(granted < REPLACED, "{elected:?}, {granted:?}");
        let seeds: Vec<_> = servers.iter().map(|(_, one)| one.address.clone()).collect();
        let directory = directory.path().join(index.to_string());
        let again = Server::begin_on(&directory, listen_again(&address), &seeds, disks.sync());
        again.group.wait_until_member().unwrap();
        servers.push((index, again));
        wait_until("all are members, with leases, and vote", || {
            servers.iter().all(|(_, one)| {
                has_lease(one) && one.members() == 3 && one.group.status().voters.len() == 3
            })
        });
    }
}
