//! Each call is executed once, whatever dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crucial::Shared;
use crucial::sync::AtomicI64;
use crucial_object::caller;
use crucial_testing::{Cluster, wait_until};
use libtest_mimic::Trial;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Outcome, PATIENCE, trials};

pub fn trials() -> Vec<Trial> {
    trials![
        e02_the_total_is_that_of_the_acknowledged_calls_while_clients_and_servers_die,
        e03_records_are_bounded_and_survive_a_fail_over,
    ]
}

/// Increments that each client makes.
fn increments() -> u64 {
    // The row's 50 000, by this variable; fewer where the time is short.
    let asked = std::env::var("CRUCIAL_E2_INCREMENTS").ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(300)
}

fn e02_the_total_is_that_of_the_acknowledged_calls_while_clients_and_servers_die() -> Outcome {
    const CLIENTS: u64 = 64;
    let mut cluster = Cluster::start(3)?;
    let counters = cluster.with(|| {
        (0..8)
            .map(|index| {
                Shared::builder(format!("e02-{index}"))
                    .persistent()
                    .create(AtomicI64::new(0))
            })
            .collect::<crucial::Result<Vec<_>>>()
    })?;
    let (acknowledged, unknown) = (AtomicU64::new(0), AtomicU64::new(0));
    let (increments, entry) = (increments(), cluster.entry());
    let work = |number: u64| -> crucial_testing::Result<()> {
        let mut random = ChaCha8Rng::seed_from_u64(number);
        let mut client = entry.client(number as usize)?;
        // Half of them die, with a call on its way of which nobody knows, and come back as others.
        let dies_at = match number % 2 {
            0 => u64::MAX,
            _ => random.random_range(0..increments),
        };
        for call in 0..increments {
            let counter = &counters[random.random_range(0..8)];
            if call == dies_at {
                unknown.fetch_add(1, Ordering::Relaxed);
                let call = caller::with(client.clone(), || counter.deferred().fetch_add(1));
                client.break_connection();
                drop(call);
                client = entry.client(number as usize)?;
                continue;
            }
            if random.random_range(0..50) == 0 {
                client.break_connection();
            }
            caller::with(client.clone(), || counter.fetch_add(1))?;
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        Ok(client.goodbye()?)
    };
    let work = &work;
    std::thread::scope(|scope| -> Outcome {
        let threads: Vec<_> = (0..CLIENTS).map(|n| scope.spawn(move || work(n))).collect();
        let all = CLIENTS * increments;
        for (victim, part) in [(0, 4), (1, 2)] {
            wait_until("clients get on", 10 * PATIENCE, || {
                Ok(acknowledged.load(Ordering::Relaxed) >= all / part - CLIENTS)
            })?;
            cluster.kill(victim)?;
            cluster.wait_whole()?;
            cluster.restart(victim)?;
            cluster.wait_whole()?;
        }
        for thread in threads {
            thread.join().expect("a client")?;
        }
        Ok(())
    })?;
    let total = cluster.with(|| {
        counters
            .iter()
            .map(|counter| counter.load())
            .sum::<crucial::Result<i64>>()
    })?;
    let (acknowledged, unknown) = (acknowledged.into_inner(), unknown.into_inner());
    assert!(
        (acknowledged..=acknowledged + unknown).contains(&(total as u64)),
        "{total}, where {acknowledged} were acknowledged, and {unknown} had no answer"
    );
    Ok(())
}

fn e03_records_are_bounded_and_survive_a_fail_over() -> Outcome {
    let mut cluster = Cluster::start(3)?;
    let client = cluster.client(0)?;
    let object = caller::with(client.clone(), || {
        Shared::builder("e03")
            .persistent()
            .create(AtomicI64::new(0))
    })?;
    let records = |client: &Arc<crucial_client::Client>| -> crucial::Result<u64> {
        let infos = client.object_infos(None, 10, Some("e03".to_owned()))?;
        Ok(infos.first().map_or(0, |info| info.records))
    };
    for _ in 0..40 {
        let other = cluster.client(1)?;
        caller::with(other.clone(), || -> crucial::Result<()> {
            for _ in 0..50 {
                object.fetch_add(1)?;
            }
            Ok(())
        })?;
        other.goodbye()?;
    }
    let before = records(&client)?;
    assert!(
        before < 200,
        "{before} records of 2000 calls by 40 clients that are gone"
    );
    cluster.kill(cluster.primary(&object)?)?;
    cluster.wait_whole()?;
    caller::with(client.clone(), || -> crucial::Result<()> {
        for _ in 0..2000 {
            object.fetch_add(1)?;
        }
        assert_eq!(object.load()?, 4000);
        Ok(())
    })?;
    let after = records(&client)?;
    assert!(after < 200, "{after} records after a fail-over");
    Ok(())
}
