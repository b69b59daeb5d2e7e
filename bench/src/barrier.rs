//! P10: the time from the arrival of the last party at a barrier until the parties continue.

use std::sync::{Arc, Barrier as StdBarrier};
use std::time::{Duration, Instant};

use clap::Args;
use crucial::Shared;
use crucial::sync::Barrier;
use crucial_client::{Client, Config};
use crucial_object::caller;

use crate::Error;
use crate::redis::Redis;
use crate::server::Server;

/// P10's goals: number of parties and mean wait, in milliseconds.
const GOALS: [(usize, f64); 2] = [(320, 2.0), (1800, 10.0)];

/// Number of sessions that the parties share, as the threads of this number of worker processes would.
const CLIENTS: usize = 16;

#[derive(Args)]
pub struct Options {
    /// Parties: threads
    #[arg(long, default_values_t = [320, 1800])]
    parties: Vec<usize>,
    /// Rounds
    #[arg(long, default_value_t = 30)]
    rounds: usize,
    /// Exit with an error if a mean wait exceeds P10's goals
    #[arg(long)]
    check: bool,
}

/// When a party arrived and continued, for each round.
type Visits = Vec<(Instant, Instant)>;

/// Lets all parties arrive together, round after round. Returns the mean time from the arrival of the last party until
/// a party continues. The time before that is the scheduling of many threads on few cores, not the barrier's.
fn waits<P: Send>(
    parties: Vec<P>,
    rounds: usize,
    wait: impl Fn(&mut P) -> Result<(), Error> + Sync,
) -> Result<Duration, Error> {
    let start = StdBarrier::new(parties.len());
    let visits: Vec<Visits> = std::thread::scope(|scope| {
        let threads: Vec<_> = parties
            .into_iter()
            .map(|mut party| {
                let (start, wait) = (&start, &wait);
                let run = move || -> Result<Visits, String> {
                    let mut visits = Vec::with_capacity(rounds);
                    for _ in 0..rounds {
                        start.wait();
                        let begin = Instant::now();
                        wait(&mut party).map_err(|error| error.to_string())?;
                        visits.push((begin, Instant::now()));
                    }
                    Ok(visits)
                };
                let small = std::thread::Builder::new().stack_size(256 << 10);
                small.spawn_scoped(scope, run)
            })
            .collect::<Result<_, _>>()?;
        let visits = threads.into_iter().map(|thread| -> Result<Visits, Error> {
            Ok(thread.join().map_err(|_| "a party panicked")??)
        });
        visits.collect::<Result<_, Error>>()
    })?;
    let mut total = Duration::ZERO;
    for round in 0..rounds {
        let of_round = || visits.iter().filter_map(|visits| visits.get(round));
        let last = of_round().map(|(begin, _)| *begin).max();
        let last = last.ok_or("a barrier needs parties")?;
        total += of_round()
            .map(|(_, end)| end.saturating_duration_since(last))
            .sum::<Duration>();
    }
    Ok(total / u32::try_from(visits.len() * rounds)?)
}

fn crucial(parties: usize, rounds: usize) -> Result<Duration, Error> {
    let server = Server::start(50, None)?;
    let clients: Vec<Arc<Client>> = (0..CLIENTS)
        .map(|_| Client::connect(Config::new(server.endpoint.clone())))
        .collect::<crucial::Result<_>>()?;
    let barrier = caller::with(clients[0].clone(), || Shared::new(Barrier::new(parties)))?;
    let parties = (0..parties).map(|party| (clients[party % CLIENTS].clone(), barrier.clone()));
    waits(parties.collect(), rounds, |(client, barrier)| {
        caller::with(client.clone(), || barrier.wait())?;
        Ok(())
    })
}

/// A barrier as Lithops implements it with Redis: a counter, and a list on which all parties but the last block.
fn redis(parties: usize, rounds: usize) -> Result<Duration, Error> {
    let server = Redis::start()?;
    let tokens: Vec<&[u8]> = vec![b"go"; parties - 1];
    let connections = (0..parties)
        .map(|_| server.connect())
        .collect::<Result<Vec<_>, _>>()?;
    waits(connections, rounds, |connection| {
        let arrived: usize = connection.integer(&[b"INCR", b"arrived"])?;
        if arrived.is_multiple_of(parties) {
            let push = [&[b"RPUSH" as &[u8], b"gate"], &tokens[..]].concat();
            connection.request(&push)
        } else {
            connection.request_lines(&[b"BLPOP", b"gate", b"0"], 5)
        }
    })
}

/// Measures. Returns whether the goals are met.
pub fn run(options: &Options) -> Result<bool, Error> {
    let mut met = true;
    println!(
        "{:>8} {:>14} {:>14} {:>8}",
        "parties", "Crucial, ms", "Redis list, ms", "ratio"
    );
    for &parties in &options.parties {
        if parties < 2 {
            return Err("a barrier needs at least two parties".into());
        }
        let ours = crucial(parties, options.rounds)?.as_secs_f64() * 1e3;
        let theirs = redis(parties, options.rounds)?.as_secs_f64() * 1e3;
        println!(
            "{parties:>8} {ours:>14.2} {theirs:>14.2} {:>7.2}×",
            ours / theirs
        );
        let goal = GOALS.iter().find(|(at, _)| *at == parties);
        met &= goal.is_none_or(|(_, goal)| ours <= *goal);
    }
    println!(
        "\nMean wait of a party after the last arrival (goals: 320 parties ≤ 2 ms, 1800 ≤ 10 ms)"
    );
    Ok(met || !options.check)
}
