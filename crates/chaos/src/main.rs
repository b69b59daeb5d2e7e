//! Injects faults into a cluster for a while, and checks what its clients observe.
//!
//! `cargo run --release -p crucial-chaos -- --seconds 600 --servers 5`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use crucial_chaos::load::{Load, LoadOptions};
use crucial_testing::{Cluster, Net, Options, Result};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Kills, pauses, cuts off, adds and removes servers of a cluster under load, and checks histories and totals.
#[derive(Parser)]
struct Arguments {
    /// How long to inject faults.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The number of servers at first.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=9))]
    servers: u8,
    /// The number of clients.
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
    /// Run all servers on loopback, even where network namespaces could be created.
    #[arg(long)]
    loopback: bool,
}

#[crucial::main]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chaos: {error} (--seed {})", arguments.seed);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
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
    println!("{} servers on {net:?}", arguments.servers);
    let mut cluster = Cluster::start_with(arguments.servers, net, options)?;
    let load = Load::start(
        &cluster,
        &LoadOptions {
            clients: arguments.clients,
            replicas: arguments.replicas,
            seed: arguments.seed,
            ..LoadOptions::default()
        },
    )?;
    let mut random = ChaCha8Rng::seed_from_u64(arguments.seed);
    let started = Instant::now();
    let mut faults = 0;
    while started.elapsed() < Duration::from_secs(arguments.seconds) {
        let pause = Duration::from_millis(random.random_range(0..=arguments.pause_ms));
        std::thread::sleep(pause);
        let before = load.calls();
        let what = inject_fault(&mut cluster, &mut random, hosts)?;
        println!(
            "{:7.1} s: {what}; {before} calls so far",
            started.elapsed().as_secs_f64()
        );
        faults += 1;
        // Objects with two replicas survive the loss of one server at a time, so the next fault waits until they have
        // two again.
        cluster.wait_whole()?;
    }
    let seen = load.finish()?;
    println!(
        "{faults} faults, {} calls, none failed; histories linearizable ({} undecided), totals exact; longest pause {:.1} s",
        seen.calls,
        seen.undecided,
        seen.longest_pause.as_secs_f64()
    );
    Ok(())
}

/// Injects a fault, ends the fault where it must not last, and returns its description.
fn inject_fault(cluster: &mut Cluster, random: &mut ChaCha8Rng, hosts: u8) -> Result<String> {
    let running = cluster.running();
    let victim = running.choose(random).copied().unwrap_or(0);
    let address = cluster.place(victim).address.clone();
    let a_while = Duration::from_millis(random.random_range(500..4500));
    match random.random_range(0..if cluster.net().can_cut() { 8 } else { 5 }) {
        0 | 1 => {
            cluster.kill(victim)?;
            std::thread::sleep(a_while);
            cluster.restart(victim)?;
            Ok(format!(
                "{address} was killed, and came back after {a_while:?}"
            ))
        }
        2 => {
            cluster.pause(victim)?;
            std::thread::sleep(a_while);
            cluster.resume(victim)?;
            Ok(format!("{address} was stopped for {a_while:?}"))
        }
        3 if running.len() > 3 => {
            let code = cluster.leave(victim)?;
            Ok(format!("{address} left ({code:?})"))
        }
        3 | 4 => match cluster.stopped().first().copied() {
            Some(place) => {
                cluster.restart(place)?;
                Ok(format!("{} joined again", cluster.place(place).address))
            }
            None if cluster.len() < usize::from(hosts) => {
                let place = cluster.add()?;
                Ok(format!("{} joined", cluster.place(place).address))
            }
            None => Ok("nothing".to_owned()),
        },
        5 => {
            cluster.net().unplug(victim as u8);
            std::thread::sleep(a_while);
            cluster.net().plug(victim as u8);
            Ok(format!("{address} was unplugged for {a_while:?}"))
        }
        6 => {
            let others: Vec<_> = running.iter().filter(|other| **other != victim).collect();
            for other in &others {
                cluster.net().cut(victim as u8, **other as u8);
                cluster.net().cut(**other as u8, victim as u8);
            }
            std::thread::sleep(a_while);
            for other in &others {
                cluster.net().mend(victim as u8, **other as u8);
                cluster.net().mend(**other as u8, victim as u8);
            }
            Ok(format!(
                "{address} was cut off from the servers for {a_while:?}"
            ))
        }
        _ => {
            let other = running.choose(random).copied().unwrap_or(0);
            if other == victim {
                return Ok("nothing".to_owned());
            }
            cluster.net().cut(victim as u8, other as u8);
            std::thread::sleep(a_while);
            cluster.net().mend(victim as u8, other as u8);
            let other = &cluster.place(other).address;
            Ok(format!(
                "{address} could not send to {other} for {a_while:?}"
            ))
        }
    }
}
