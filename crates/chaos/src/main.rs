//! Injects faults into a cluster for a while, and checks what its clients observe.
//!
//! `cargo run --release -p crucial-chaos -- --seconds 600 --servers 5`

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use crucial_chaos::faults::{FaultOptions, Faults};
use crucial_chaos::judge::Judge;
use crucial_chaos::load::{Load, LoadOptions};
use crucial_chaos::memory::Memory;
use crucial_chaos::worker::{Context, Workers};
use crucial_chaos::{large, long, small, uploaded};
use crucial_testing::{Cluster, Net, Options, Result};

/// The longest part of the time that has one fault at a time.
const WARM_UP_MAX: Duration = Duration::from_secs(60);

/// Kills, pauses, cuts off, slows down, adds and removes servers of a cluster under load, and checks histories and
/// values. An object may be lost only if all of its replicas were at servers with overlapping faults; it is never wrong
/// nor empty.
#[derive(Parser)]
struct Arguments {
    /// How long to inject faults.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How many times, each with a new cluster and the next seed.
    #[arg(long, default_value_t = 1)]
    pieces: u64,
    /// The number of servers at first.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=9))]
    servers: u8,
    /// The number of clients of registers, counters and queues.
    #[arg(long, default_value_t = 6)]
    clients: u64,
    /// The number of replicas of each object.
    #[arg(long, default_value_t = 2)]
    replicas: u8,
    /// The seed of the faults and their times.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The longest pause between two faults, in milliseconds.
    #[arg(long, default_value_t = 4000)]
    pause_ms: u64,
    /// How many faults overlap, at most, after a quarter of the time (60 s at most) with one fault at a time.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=9))]
    overlapping: u8,
    /// Two blobs grow to this many megabytes each, and are read back; 0: none.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(0..=1000))]
    large: u64,
    /// The number of small objects; 0: none.
    #[arg(long, default_value_t = 2000)]
    small: u64,
    /// The number of objects whose methods sleep for 10 ms to 3 s at the same time; 0: none.
    #[arg(long, default_value_t = 20)]
    long: u64,
    /// Push, replace and remove uploaded modules all the while. Needs cargo and the target wasm32-unknown-unknown.
    #[arg(long)]
    modules: bool,
    /// No server may have more memory (resident, in megabytes) than this.
    #[arg(long, default_value_t = 500)]
    rss_max_mb: u64,
    /// How long the cluster may take to be whole after the faults of a burst, in seconds.
    #[arg(long, default_value_t = 60)]
    whole_s: u64,
    /// The file that gets a line for each fault; by default one in the directory for temporary files.
    #[arg(long)]
    faults: Option<PathBuf>,
    /// Write the registers' histories to this file, as docs/history.md describes.
    #[arg(long)]
    history: Option<PathBuf>,
    /// Run all servers on loopback, even where network namespaces could be created.
    #[arg(long)]
    loopback: bool,
}

#[crucial::main]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    for seed in arguments.seed..arguments.seed + arguments.pieces {
        if let Err(error) = run(&arguments, seed) {
            eprintln!("chaos: {error} (--seed {seed})");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// The file of a piece: `path`, with the seed in its name if there are several pieces.
fn of_piece(arguments: &Arguments, path: &std::path::Path, seed: u64) -> PathBuf {
    match arguments.pieces {
        1 => path.to_owned(),
        _ => path.with_added_extension(seed.to_string()),
    }
}

fn run(arguments: &Arguments, seed: u64) -> Result<()> {
    let hosts = arguments.servers + 2;
    let net = match arguments.loopback {
        true => Net::Loopback,
        false => Net::best(hosts),
    };
    let options = Options {
        // A client must not lose its session because a server was cut off from it.
        lease_ms: 60_000,
        ..Options::default()
    };
    let (servers, name) = (arguments.servers, format!("chaos-faults-{seed}.tsv"));
    println!("seed {seed}, {servers} servers, {}", net.describe());
    let log = match &arguments.faults {
        Some(path) => of_piece(arguments, path, seed),
        None => std::env::temp_dir().join(name),
    };
    println!("faults are written to {}", log.display());
    let cluster = Cluster::start_with(arguments.servers, net, options)?;
    let judge = Arc::new(Judge::new(&cluster.info(0)?));
    let memory = Arc::new(Memory::watch(arguments.rss_max_mb));
    let mut load = Load::start(
        &cluster,
        &LoadOptions {
            clients: arguments.clients,
            replicas: arguments.replicas,
            seed,
            judge: Some(judge.clone()),
            ..LoadOptions::default()
        },
    )?;
    let (context, mut workers) =
        Context::new(cluster.entry(), judge.clone(), arguments.replicas, seed);
    start(arguments, &mut workers, &context)?;
    let options = FaultOptions {
        seed,
        pause: Duration::from_millis(arguments.pause_ms),
        hosts,
        log,
        patience: Duration::from_secs(arguments.whole_s),
    };
    let mut faults = Faults::new(cluster, judge.clone(), memory.clone(), options)?;
    let begun = Instant::now();
    let seconds = Duration::from_secs(arguments.seconds);
    let warm_up = WARM_UP_MAX.min(seconds / 4);
    while begun.elapsed() < seconds {
        let limit = match begun.elapsed() < warm_up {
            true => 1,
            false => usize::from(arguments.overlapping),
        };
        let outcome = faults.burst(limit);
        // What clients saw says more than that the cluster is not whole.
        load.check()?;
        workers.check()?;
        memory.check()?;
        outcome?;
        let (count, overlaps) = faults.count();
        println!(
            "{:7.1} s: whole again; {count} faults, {overlaps} of them during another, {} calls, {} objects lost, {} MB",
            begun.elapsed().as_secs_f64(),
            load.calls(),
            judge.allowed(),
            memory.peak_mb()
        );
    }
    let done = workers.finish()?;
    let history = arguments.history.as_ref();
    let history = history.map(|path| of_piece(arguments, path, seed));
    let seen = load.finish_with(history.as_deref())?;
    // Losses that were seen by the last checks only.
    faults.end_episode()?;
    memory.check()?;
    done.iter().for_each(|line| println!("{line}"));
    let (count, overlaps) = faults.count();
    println!(
        "{count} faults, {overlaps} of them during another; {} calls, none failed; histories linearizable ({} undecided), \
         values exact; {} objects lost with all replicas; longest pause {:.1} s; {} times a server was expired without a \
         fault of its own; peak {} MB",
        seen.calls,
        seen.undecided,
        judge.allowed(),
        seen.longest_pause.as_secs_f64(),
        judge.surprises(),
        memory.peak_mb(),
    );
    Ok(())
}

/// Starts the loads that the arguments name.
fn start(arguments: &Arguments, workers: &mut Workers, context: &Context) -> Result<()> {
    if arguments.large > 0 {
        large::start(workers, context, arguments.large)?;
    }
    if arguments.small > 0 {
        small::start(workers, context, arguments.small)?;
    }
    if arguments.long > 0 {
        long::start(workers, context, arguments.long)?;
    }
    if arguments.modules {
        uploaded::start(workers, context)?;
    }
    Ok(())
}
