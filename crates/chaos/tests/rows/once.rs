//! Each call is executed once, whatever dies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crucial::collections::Queue;
use crucial::sync::AtomicI64;
use crucial::{Shared, SharedType, cloud};
use crucial_object::{Journal, ObjectId, caller};
use crucial_testing::{Cluster, wait_until};
use libtest_mimic::{Failed, Trial};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Outcome, PATIENCE, trials};

pub fn trials() -> Vec<Trial> {
    trials![
        e02_the_total_is_that_of_the_acknowledged_calls_while_clients_and_servers_die,
        e01_a_call_of_an_exactly_once_thread_waits_until_its_journal_has_it,
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

/// Adds to one of the counters when it is told to which.
#[cloud]
fn add_when_told(
    ready: Shared<Queue<bool>>,
    chosen: Shared<Queue<Option<usize>>>,
    counters: Vec<Shared<AtomicI64>>,
) -> crucial::Result<()> {
    ready.push(true)?;
    if let Some(Some(index)) = chosen.pop()? {
        counters[index].fetch_add(1)?;
    }
    Ok(())
}

/// A thread whose journal is on a server that stands still makes no call, though the call's own server answers.
fn e01_a_call_of_an_exactly_once_thread_waits_until_its_journal_has_it() -> Outcome {
    /// Much longer than a call takes, and shorter than the lease of the server that stands still.
    const QUIET: Duration = Duration::from_millis(400);
    let mut cluster = Cluster::start(3)?;
    let mut config = crucial::Config::from_env()?;
    config.cluster = Some(cluster.addresses(0).parse()?);
    crucial::init(config)?;
    let counter = |index| {
        let counter = Shared::builder(format!("e01-counter-{index}"));
        counter.persistent().replicas(1).create(AtomicI64::new(0))
    };
    let counters = (0..16).map(counter).collect::<crucial::Result<Vec<_>>>()?;
    let ready = Shared::builder("e01-ready");
    let ready = ready.persistent().create(Queue::default())?;
    // The thread waits at a queue that is not where its journal is: which server that is shows when the thread runs.
    let mut places = BTreeMap::new();
    for index in 0..16 {
        let queue = Shared::builder(format!("e01-queue-{index}"));
        let queue = queue.persistent().replicas(1).create(Queue::default())?;
        places.insert(cluster.primary(&queue)?, queue);
    }
    let (place, queue) = places.pop_first().ok_or("no queue")?;
    let (journal, thread) = loop {
        let before = journals(&cluster)?;
        let task = add_when_told(ready.clone(), queue.clone(), counters.clone());
        let thread = crucial::thread::Builder::new().exactly_once().spawn(task)?;
        ready.pop()?;
        let journal = journals(&cluster)?.difference(&before).copied().next();
        let journal = cluster.primary_of(&journal.ok_or("no journal")?)?;
        if journal != place {
            break (journal, thread);
        }
        queue.push(None)?;
        thread.join()??;
    };
    let mut index = 0;
    while cluster.primary(&counters[index])? == journal {
        index += 1;
    }
    cluster.pause(journal)?;
    queue.push(Some(index))?;
    // Only time shows what does not happen.
    std::thread::sleep(QUIET);
    let before = counters[index].load()?;
    cluster.resume(journal)?;
    thread.join()??;
    let after = counters[index].load()?;
    assert_eq!((before, after), (0, 1), "the call came before its entry");
    Ok(())
}

/// The journals of exactly-once threads.
fn journals(cluster: &Cluster) -> Result<BTreeSet<ObjectId>, Failed> {
    let client = cluster.client(0)?;
    let objects = client.object_infos(None, 1000, None)?;
    client.goodbye()?;
    let journals = objects
        .iter()
        .filter(|object| object.type_name == Journal::NAME);
    Ok(journals.map(|object| object.id).collect())
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
