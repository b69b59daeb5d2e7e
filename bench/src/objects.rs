//! P15: a million small objects: memory, and the latency of a call.

use std::sync::Arc;

use clap::Args;
use crucial::Shared;
use crucial::sync::AtomicI64;
use crucial_client::{Client, Config};
use crucial_object::caller;

use crate::Error;
use crate::sample::{Sample, print_head};
use crate::server::Server;

/// P15's goal: bytes per object beyond the object's state.
const GOAL: f64 = 300.0;

/// Number of threads that create objects.
const MAKERS: usize = 8;

#[derive(Args)]
pub struct Options {
    /// Objects
    #[arg(long, default_value_t = 1_000_000)]
    objects: usize,
    /// Number of measured calls, with few objects and with all
    #[arg(long, default_value_t = 20_000)]
    calls: usize,
    /// Exit with an error if an object takes more bytes than this; 300 by default
    #[arg(long, value_name = "BYTES", num_args = 0..=1, default_missing_value = "300")]
    check: Option<f64>,
}

/// Creates objects and changes each once, so that each has a completion record. Returns handles to some of them.
fn make(client: &Arc<Client>, count: usize) -> Result<Vec<Shared<AtomicI64>>, Error> {
    std::thread::scope(|scope| {
        let makers: Vec<_> = (0..MAKERS)
            .map(|maker| {
                scope.spawn(move || {
                    caller::with(client.clone(), || -> crucial::Result<_> {
                        let mut kept = Vec::new();
                        let share = count / MAKERS + usize::from(maker < count % MAKERS);
                        for index in 0..share {
                            let object = Shared::new(AtomicI64::new(1))?;
                            object.fetch_add(1)?;
                            if index % (share / 100 + 1) == 0 {
                                kept.push(object);
                            }
                        }
                        Ok(kept)
                    })
                })
            })
            .collect();
        let mut all = Vec::new();
        for maker in makers {
            all.extend(
                maker
                    .join()
                    .map_err(|_| "a thread that creates objects panicked")??,
            );
        }
        Ok(all)
    })
}

fn latency(
    client: &Arc<Client>,
    objects: &[Shared<AtomicI64>],
    calls: usize,
) -> Result<Sample, Error> {
    let mut sample = Sample::default();
    let mut turn = 0;
    caller::with(client.clone(), || {
        sample.measure(calls, || {
            turn += 1;
            objects[turn % objects.len()].fetch_add(1).map(drop)
        })
    })?;
    Ok(sample)
}

/// Measures. Returns whether the goal is met.
pub fn run(options: &Options) -> Result<bool, Error> {
    let server = Server::start(50, None)?;
    let client = Client::connect(Config::new(server.endpoint.clone()))?;
    let few = make(&client, 100)?;
    let with_few = latency(&client, &few, options.calls)?;
    let before = server.resident_bytes()?;
    let many = make(&client, options.objects)?;
    let bytes = (server.resident_bytes()? - before) as f64 / options.objects as f64;
    let with_many = latency(&client, &many, options.calls)?;

    println!(
        "{} objects (AtomicI64, one completion record each): {bytes:.0} bytes each (goal ≤ {GOAL:.0} over the state of 8)\n",
        options.objects
    );
    print_head("to few");
    with_few.print("fetch_add, 100 objects");
    with_many.print_beside("fetch_add, all objects", &with_few);
    Ok(options.check.is_none_or(|goal| bytes - 8.0 <= goal))
}
