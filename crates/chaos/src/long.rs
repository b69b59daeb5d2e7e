//! Long methods: many objects whose methods sleep at the same time.

use std::time::Duration;

use crucial::{Pending, Shared, shared};
use crucial_testing::{Error, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::worker::{Context, Outcome, Seen, Workers};

/// For how long a method sleeps, in milliseconds.
const NAP_MS: std::ops::RangeInclusive<u64> = 10..=3000;

/// An object with a method that takes long.
#[derive(Default, Serialize, Deserialize)]
pub struct Sleeper {
    naps: u64,
}

#[shared]
impl Sleeper {
    /// Sleeps in the server, and returns how many times it has.
    pub fn nap(&mut self, ms: u64) -> u64 {
        // The long method that the load is about.
        std::thread::sleep(Duration::from_millis(ms));
        self.naps += 1;
        self.naps
    }
}

/// Starts a thread that has `count` objects sleep at the same time, again and again.
///
/// # Errors
///
/// If a client cannot connect.
pub fn start(workers: &mut Workers, context: &Context, count: u64) -> Result<()> {
    workers.start(context, "long methods".to_owned(), move |context| {
        run(context, count)
    })
}

struct Bed {
    name: String,
    sleeper: Shared<Sleeper>,
    seen: Seen,
    naps: u64,
}

fn create(context: &Context, generation: &mut u64) -> Result<Bed> {
    let name = |generation: u64| format!("sleeper-{generation}");
    let (sleeper, since) = context.create(generation, |generation| {
        Shared::builder(name(generation))
            .replicas(context.replicas)
            .create(Sleeper::default())
    })?;
    Ok(Bed {
        name: name(*generation),
        seen: Seen {
            object: sleeper.id(),
            since,
        },
        sleeper,
        naps: 0,
    })
}

fn run(context: &Context, count: u64) -> Result<String> {
    let mut random = ChaCha8Rng::seed_from_u64(context.seed ^ 0x1e9);
    let (mut generation, mut rounds) = (0, 0);
    let mut beds = Vec::new();
    for _ in 0..count {
        beds.push(create(context, &mut generation)?);
    }
    while !context.is_over() {
        let begun = context.judge.now();
        let naps: Vec<Pending<u64>> = beds
            .iter()
            .map(|bed| bed.sleeper.deferred().nap(random.random_range(NAP_MS)))
            .collect();
        for (bed, nap) in beds.iter_mut().zip(naps) {
            bed.naps += 1;
            match context.settle(&bed.name, &mut bed.seen, begun, nap.wait())? {
                Outcome::Done(naps) if naps != bed.naps => {
                    return Err(Error::Wrong(format!(
                        "{} slept {naps} times, and {} were asked for",
                        bed.name, bed.naps
                    )));
                }
                Outcome::Done(_) => {}
                Outcome::Lost => *bed = create(context, &mut generation)?,
            }
        }
        rounds += 1;
    }
    Ok(format!("long methods: {rounds} times {count}"))
}
