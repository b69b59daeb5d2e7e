//! Servers that come and go.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crucial::Shared;
use crucial::collections::Set;
use crucial::sync::AtomicI64;
use crucial_chaos::load::{Load, LoadOptions};
use crucial_object::caller;
use crucial_testing::Cluster;
use libtest_mimic::Trial;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Outcome, PATIENCE, trials};

pub fn trials() -> Vec<Trial> {
    trials![
        d06_a_fourth_server_takes_its_share_and_results_are_unchanged,
        d07_a_server_that_leaves_loses_nothing,
        d08_a_writer_sees_each_insert_once_while_servers_come_and_go,
        d09_readers_never_stop_while_a_server_crashes_and_another_comes,
        d10_replicas_are_equal_after_many_mixed_calls,
        servers_that_are_all_told_to_stop_end_soon,
        names_of_what_is_gone_are_lost_until_somebody_says_otherwise,
        a_first_server_with_an_empty_disk_founds_no_second_cluster,
    ]
}

fn d06_a_fourth_server_takes_its_share_and_results_are_unchanged() -> Outcome {
    let mut cluster = Cluster::start(3)?;
    let load = Load::start(&cluster, &LoadOptions::default())?;
    let client = cluster.client(0)?;
    let numbers: Vec<Shared<AtomicI64>> = caller::with(client.clone(), || {
        (0..100)
            .map(|index| {
                // Also those of which there is one.
                Shared::builder(format!("d06-{index}"))
                    .persistent()
                    .replicas(1 + (index % 3) as u8)
                    .create(AtomicI64::new(index))
            })
            .collect::<crucial::Result<_>>()
    })?;
    let before = client.cluster_info()?;
    cluster.add()?;
    cluster.wait_whole()?;
    let after = client.cluster_info()?;
    let primaries = |info: &crucial_proto::frame::ClusterInfo| -> Vec<u64> {
        info.partitions
            .iter()
            .map(|partition| partition.assignments[0].1)
            .collect()
    };
    let (old, new) = (primaries(&before), primaries(&after));
    let moved = old.iter().zip(&new).filter(|(old, new)| old != new).count();
    let share = new.len() as f64 / 4.0;
    let known: Vec<_> = before.members.iter().map(|member| member.node).collect();
    let to_others = old
        .iter()
        .zip(&new)
        .filter(|(old, new)| old != new && known.contains(new));
    assert_eq!(
        to_others.count(),
        0,
        "only partitions of the joining server have moved"
    );
    assert!(
        (0.8 * share..1.2 * share).contains(&(moved as f64)),
        "{moved} of {} moved",
        new.len()
    );
    caller::with(client, || -> crucial::Result<()> {
        for (index, number) in numbers.iter().enumerate() {
            assert_eq!(number.load()?, index as i64);
        }
        Ok(())
    })?;
    load.await_calls(100, PATIENCE)?;
    assert_eq!(load.finish()?.undecided, 0);
    Ok(())
}

fn d07_a_server_that_leaves_loses_nothing() -> Outcome {
    let mut cluster = Cluster::start(3)?;
    let client = cluster.client(1)?;
    let ones: Vec<Shared<AtomicI64>> = caller::with(client.clone(), || {
        (0..100)
            .map(|index| {
                Shared::builder(format!("d07-{index}"))
                    .persistent()
                    .replicas(1)
                    .create(AtomicI64::new(index))
            })
            .collect::<crucial::Result<_>>()
    })?;
    let load = Load::start(&cluster, &LoadOptions::default())?;
    for leaver in [0, 1] {
        load.await_calls(100, PATIENCE)?;
        assert_eq!(cluster.leave(leaver)?, Some(0));
        cluster.wait_whole()?;
        caller::with(client.clone(), || -> crucial::Result<()> {
            for (index, one) in ones.iter().enumerate() {
                assert_eq!(one.load()?, index as i64, "of {leaver}");
            }
            Ok(())
        })?;
        cluster.restart(leaver)?;
        cluster.wait_whole()?;
    }
    assert_eq!(load.finish()?.undecided, 0);
    Ok(())
}

/// Whichever of them is the first to hear of it, and whoever votes: none waits for one that is gone.
fn servers_that_are_all_told_to_stop_end_soon() -> Outcome {
    let rounds =
        std::env::var("CRUCIAL_STOP_ROUNDS").map_or(Ok(2), |rounds| rounds.parse::<u64>())?;
    for round in 0..rounds {
        for gap_ms in [0, 30, 90] {
            let mut cluster = Cluster::start(3)?;
            caller::with(cluster.client(0)?, || {
                Shared::builder("stop")
                    .persistent()
                    .create(AtomicI64::new(1))
            })?;
            for index in 0..3 {
                // In another order each time: the seed is the first leader.
                cluster.request_leave((index + round as usize) % 3)?;
                // The gap is what the row is about: by then the servers before have got this far with leaving.
                std::thread::sleep(Duration::from_millis(gap_ms));
            }
            for index in 0..3 {
                let status = cluster.await_exit(index, Duration::from_secs(10));
                let status =
                    status.map_err(|error| format!("round {round}, {gap_ms} ms apart: {error}"))?;
                assert_eq!(
                    status,
                    Some(0),
                    "round {round}, {gap_ms} ms apart, server {index}"
                );
            }
        }
    }
    Ok(())
}

fn names_of_what_is_gone_are_lost_until_somebody_says_otherwise() -> Outcome {
    let mut cluster = Cluster::start(3)?;
    let counter = ["counter", "gone"];
    let run = |cluster: &Cluster, operation: &[&str]| {
        cluster.crucial(0, &[&counter[..], operation].concat())
    };
    assert_eq!(run(&cluster, &["add", "5"])?.trim(), "5");
    for index in 0..3 {
        cluster.kill(index)?;
    }
    cluster.restart_all()?;
    cluster.wait_whole()?;
    // Not 0, as of a counter that nobody has used.
    let lost = run(&cluster, &["get"]).expect_err("a counter that is gone");
    assert!(lost.contains("gone"), "{lost}");
    let status = cluster.crucial(1, &["--json", "cluster", "status"])?;
    assert!(
        !status.contains(r#""partitions_with_lost_objects":0"#),
        "{status}"
    );
    let forgotten = cluster.crucial(1, &["cluster", "forget"])?;
    assert!(forgotten.trim().parse::<u32>()? > 0, "{forgotten}");
    assert_eq!(run(&cluster, &["add", "2"])?.trim(), "2");
    let status = cluster.crucial(1, &["--json", "cluster", "status"])?;
    assert!(
        status.contains(r#""partitions_with_lost_objects":0"#),
        "{status}"
    );
    Ok(())
}

/// The cluster that `crucial cluster status` names.
fn cluster_of(cluster: &Cluster, first: usize) -> Result<String, libtest_mimic::Failed> {
    let status = cluster.crucial(first, &["--json", "cluster", "status"])?;
    let (_, rest) = status.split_once(r#""cluster":""#).ok_or("no cluster")?;
    Ok(rest.split('"').next().unwrap_or_default().to_owned())
}

fn a_first_server_with_an_empty_disk_founds_no_second_cluster() -> Outcome {
    let mut cluster = Cluster::start(3)?;
    let before = cluster_of(&cluster, 0)?;
    for index in 0..3 {
        cluster.kill(index)?;
    }
    // The first of the list is there before the others, and has lost what it had.
    cluster.wipe(0)?;
    cluster.begin(0)?;
    // The first server lets nobody in: before, it founded a cluster after one look at the others.
    let alone = cluster.client_with(0, |config| {
        config.seeds.clear();
        config.patience = Duration::from_secs(2);
    });
    assert!(alone.is_err(), "the first server serves alone");
    cluster.begin(1)?;
    cluster.begin(2)?;
    for index in 0..3 {
        cluster.await_ready(index)?;
    }
    cluster.wait_whole()?;
    for index in 0..3 {
        assert_eq!(cluster_of(&cluster, index)?, before);
    }
    Ok(())
}

fn d08_a_writer_sees_each_insert_once_while_servers_come_and_go() -> Outcome {
    const ITEMS: u64 = 5000;
    let mut cluster = Cluster::start(3)?;
    let client = cluster.client(0)?;
    let set: Shared<Set<u64>> = caller::with(client.clone(), || {
        Shared::builder("d08").persistent().create(Set::default())
    })?;
    let (new, done) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| -> Outcome {
        let writer = scope.spawn(|| {
            let inserted = caller::with(client.clone(), || -> crucial::Result<()> {
                for item in 0..ITEMS {
                    new.fetch_add(u64::from(set.insert(item)?), Ordering::Relaxed);
                    // As slow as the paper's, so that several servers come and go meanwhile.
                    std::thread::sleep(Duration::from_millis(2));
                }
                Ok(())
            });
            done.store(true, Ordering::Relaxed);
            inserted
        });
        let mut changes = 0;
        while !done.load(Ordering::Relaxed) {
            let round = Instant::now();
            match cluster.stopped().first().copied() {
                Some(place) => cluster.restart(place)?,
                None => drop(cluster.leave(changes % 3)?),
            }
            changes += 1;
            std::thread::sleep(Duration::from_secs(3).saturating_sub(round.elapsed()));
        }
        writer.join().expect("the writer")?;
        assert!(changes >= 3, "only {changes} servers came or went");
        Ok(())
    })?;
    assert_eq!(new.load(Ordering::Relaxed), ITEMS);
    assert_eq!(caller::with(client, || set.len())?, ITEMS);
    Ok(())
}

fn d09_readers_never_stop_while_a_server_crashes_and_another_comes() -> Outcome {
    const READERS: usize = 100;
    const CENTROIDS: usize = 200;
    let mut cluster = Cluster::start(3)?;
    let owner = cluster.client(0)?;
    let centroids: Vec<Shared<AtomicI64>> = caller::with(owner.clone(), || {
        (0..CENTROIDS)
            .map(|index| {
                Shared::builder(format!("d09-{index}"))
                    .replicas(2)
                    .create(AtomicI64::new(index as i64))
            })
            .collect::<crucial::Result<_>>()
    })?;
    let (reads, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|index| {
            let run = owner.run();
            cluster.client_with(index % 3, |config| {
                config.run = run;
                config.owner = false;
            })
        })
        .collect::<crucial_testing::Result<_>>()?;
    let read = |number: usize| {
        let client = clients[number % clients.len()].clone();
        let mut random = ChaCha8Rng::seed_from_u64(number as u64);
        caller::with(client, || -> crucial::Result<()> {
            while !stop.load(Ordering::Relaxed) {
                let which = random.random_range(0..CENTROIDS);
                assert_eq!(centroids[which].load()?, which as i64);
                reads.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        })
    };
    let read = &read;
    std::thread::scope(|scope| -> Outcome {
        let readers: Vec<_> = (0..READERS).map(|n| scope.spawn(move || read(n))).collect();
        let gets_on = |what: &str| {
            let until = reads.load(Ordering::Relaxed) + 2000;
            crucial_testing::wait_until(what, PATIENCE, || {
                Ok(reads.load(Ordering::Relaxed) >= until)
            })
        };
        let outcome = (|| {
            gets_on("reads")?;
            cluster.kill(1)?;
            gets_on("reads after a crash")?;
            cluster.wait_whole()?;
            cluster.restart(1)?;
            cluster.wait_whole()?;
            gets_on("reads after a join")
        })();
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().expect("a reader")?;
        }
        Ok(outcome?)
    })
}

fn d10_replicas_are_equal_after_many_mixed_calls() -> Outcome {
    let mut cluster = Cluster::start(3)?;
    let options = LoadOptions {
        clients: 8,
        objects: 5,
        replicas: 3,
        pause: Duration::from_micros(1),
        seed: 10,
        ..LoadOptions::default()
    };
    let load = Load::start(&cluster, &options)?;
    load.await_calls(20_000, 2 * PATIENCE)?;
    cluster.kill(0)?;
    load.await_calls(20_000, 2 * PATIENCE)?;
    cluster.restart(0)?;
    cluster.wait_whole()?;
    load.await_calls(60_000, 4 * PATIENCE)?;
    let paused = load.pause()?;
    let client = cluster.client(0)?;
    crucial_testing::wait_until("replicas are equal", PATIENCE, || {
        let mut by_object: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for replica in client.replica_infos(1000)? {
            let Some(checksum) = replica.checksum else {
                continue;
            };
            by_object
                .entry(replica.id)
                .or_default()
                .push((replica.version, checksum));
        }
        let is_equal = |all: &Vec<_>| all.len() == 3 && all.iter().all(|one| *one == all[0]);
        Ok(by_object.len() >= 15 && by_object.values().all(is_equal))
    })?;
    paused.finish()?;
    Ok(())
}
