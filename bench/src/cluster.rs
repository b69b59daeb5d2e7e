//! P2 and P12: measurements of three servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use crucial::Shared;
use crucial::collections::Blob;
use crucial_client::Client;
use crucial_object::caller;
use crucial_testing::{Cluster, Net, Options as ServerOptions};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::Error;
use crate::sample::{Sample, print_head};
use crate::value::VALUE_BYTES;

/// P2's goals: the time with two replicas, as a multiple of the time with one.
const PUT_GOAL: f64 = 1.8;
const GET_GOAL: f64 = 1.05;

/// P12's goals.
const STANDSTILL_GOAL: Duration = Duration::from_secs(2);
const RECOVERY_GOAL: Duration = Duration::from_secs(5);
const RECOVERED: f64 = 0.95;

/// P12's load.
const READERS: usize = 100;
const OBJECTS: usize = 200;
const CLIENTS: usize = 10;

/// Length of the intervals in which reads are counted.
const BUCKET: Duration = Duration::from_millis(100);

#[derive(Args)]
pub struct Options {
    /// Calls of each kind in each round
    #[arg(long, default_value_t = 1000)]
    calls: usize,
    /// Rounds, in which the two kinds of objects alternate
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Duration of each phase of P12, in seconds: before the crash, until the join, and after it
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// Exit with an error if a goal is missed
    #[arg(long)]
    check: bool,
}

pub fn run(options: &Options) -> Result<bool, Error> {
    let mut met = true;
    for spin_us in [0, 50] {
        let servers = ServerOptions {
            spin_us,
            ..ServerOptions::default()
        };
        let cluster = Cluster::start_with(3, Net::Loopback, servers)?;
        met &= replicas(&cluster, spin_us, options)?;
    }
    met &= readers(Cluster::start(3)?, options)?;
    Ok(met || !options.check)
}

/// Measures P2.
fn replicas(cluster: &Cluster, spin_us: u64, options: &Options) -> Result<bool, Error> {
    let client = cluster.client_with(0, |config| {
        config.spin = Duration::from_micros(spin_us);
        // TCP, which the servers use among each other, and which clients on other machines use.
        config.local_socket = false;
    })?;
    let bytes = vec![7; VALUE_BYTES];
    let value = |key: String, replicas: u8| {
        Shared::builder(key)
            .replicas(replicas)
            .create(Blob::new(bytes.clone()))
    };
    // Several objects of each kind, since the latency depends on an object's server.
    let of = |replicas: u8| -> crucial::Result<Vec<Shared<Blob>>> {
        (0..8)
            .map(|index| value(format!("p2-{replicas}-{index}"), replicas))
            .collect()
    };
    let objects = caller::with(client.clone(), || Ok::<_, Error>([of(1)?, of(2)?]))?;
    let mut puts = [Sample::default(), Sample::default()];
    let mut gets = [Sample::default(), Sample::default()];
    caller::with(client, || -> Result<(), Error> {
        for _ in 0..options.rounds {
            for (which, objects) in objects.iter().enumerate() {
                let mut turn = 0;
                let mut next = || {
                    turn += 1;
                    &objects[turn % objects.len()]
                };
                puts[which].measure(options.calls, || next().set(bytes.clone().into()))?;
                gets[which].measure(options.calls, || next().get().map(drop))?;
            }
        }
        Ok(())
    })?;
    println!("P2, 1 KB, spinning for {spin_us} µs");
    print_head("to one");
    puts[0].print("PUT, one replica");
    puts[1].print_beside("PUT, two replicas", &puts[0]);
    gets[0].print("GET, one replica");
    gets[1].print_beside("GET, two replicas", &gets[0]);
    println!("goals: PUT {PUT_GOAL}, GET {GET_GOAL}\n");
    Ok(puts[1].ratio(&puts[0]) <= PUT_GOAL && gets[1].ratio(&gets[0]) <= GET_GOAL)
}

/// The progress of all readers.
struct Progress {
    started: Instant,
    reads: AtomicU64,
    /// The time of the last read, and the longest time between two reads, in microseconds.
    last_us: AtomicU64,
    longest_us: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    /// Records a read.
    fn record_read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let now_us = self.started.elapsed().as_micros() as u64;
        let last_us = self.last_us.fetch_max(now_us, Ordering::Relaxed);
        let pause_us = now_us.saturating_sub(last_us);
        self.longest_us.fetch_max(pause_us, Ordering::Relaxed);
    }

    /// Counts the reads in each tenth of a second, for this duration.
    fn watch(&self, time: Duration) -> Vec<u64> {
        let mut counts = Vec::new();
        let started = Instant::now();
        let mut before = self.reads.load(Ordering::Relaxed);
        while started.elapsed() < time {
            std::thread::sleep(BUCKET);
            let now = self.reads.load(Ordering::Relaxed);
            counts.push(now - before);
            before = now;
        }
        counts
    }
}

/// Measures P12.
fn readers(mut cluster: Cluster, options: &Options) -> Result<bool, Error> {
    let owner = cluster.client(0)?;
    let objects: Vec<Shared<Blob>> = caller::with(owner.clone(), || {
        let made = (0..OBJECTS).map(|index| {
            let object = Shared::builder(format!("p12-{index}")).replicas(2);
            object.create(Blob::new(vec![7; VALUE_BYTES]))
        });
        made.collect::<crucial::Result<_>>()
    })?;
    let run = owner.run();
    let clients: Vec<Arc<Client>> = (0..CLIENTS)
        .map(|index| {
            cluster.client_with(index % 3, |config| {
                config.run = run;
                config.owner = false;
            })
        })
        .collect::<Result<_, _>>()?;
    let progress = Progress {
        started: Instant::now(),
        reads: AtomicU64::new(0),
        last_us: AtomicU64::new(0),
        longest_us: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    };
    let part = Duration::from_secs(options.seconds);
    let (progress, objects) = (&progress, &objects);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|number| {
                let client = clients[number % CLIENTS].clone();
                scope.spawn(move || read(number, client, objects, progress))
            })
            .collect();
        // The first second warms up caches, branch predictors and the kernel's tables.
        progress.watch(Duration::from_secs(1));
        let steady = progress.watch(part);
        progress.longest_us.store(0, Ordering::Relaxed);
        cluster.kill(2)?;
        let crash = progress.watch(part);
        let standstill = Duration::from_micros(progress.longest_us.load(Ordering::Relaxed));
        cluster.restart(2)?;
        let join = progress.watch(part);
        progress.stop.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().map_err(|_| "a reader panicked")??;
        }
        Ok(judge(&steady, &crash, &join, standstill))
    })
}

fn read(
    number: usize,
    client: Arc<Client>,
    objects: &[Shared<Blob>],
    progress: &Progress,
) -> crucial::Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(number as u64);
    caller::with(client, || {
        while !progress.stop.load(Ordering::Relaxed) {
            let which = random.random_range(0..OBJECTS);
            objects[which].get()?;
            progress.record_read();
        }
        Ok(())
    })
}

fn judge(steady: &[u64], crash: &[u64], join: &[u64], standstill: Duration) -> bool {
    let median = |counts: &[u64]| {
        let mut counts = counts.to_vec();
        counts.sort_unstable();
        counts.get(counts.len() / 2).copied().unwrap_or(0)
    };
    let usual = median(steady);
    // The rate has recovered when half of the tenths of the following second are at the full rate.
    let enough = (usual as f64 * RECOVERED) as u64;
    let recovered = join.windows(10).position(|window| median(window) >= enough);
    let recovery = recovered.map(|index| BUCKET * index as u32);
    let per_second = |counts: &[u64]| {
        let seconds = counts
            .chunks(10)
            .map(|tenths| tenths.iter().sum::<u64>().to_string());
        seconds.collect::<Vec<_>>().join(" ")
    };
    println!("P12, {READERS} readers, {OBJECTS} objects with two replicas, reads per second");
    println!("before:           {}", per_second(steady));
    println!("after the crash:  {}", per_second(crash));
    println!("after the join:   {}", per_second(join));
    println!("longest pause:    {standstill:.2?} (goal {STANDSTILL_GOAL:?})");
    match recovery {
        Some(time) => println!(
            "{RECOVERED} of the usual rate was reached {time:.1?} after the join (goal {RECOVERY_GOAL:?})"
        ),
        None => println!("{RECOVERED} of the usual rate was not reached after the join"),
    }
    standstill <= STANDSTILL_GOAL && recovery.is_some_and(|time| time <= RECOVERY_GOAL)
}
