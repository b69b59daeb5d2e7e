//! A cluster in one thread, from a seed: the state machines of `crucial-cluster` and the objects of
//! `crucial-object`, with a network that loses, repeats, delays and reorders, clocks that drift, servers that die, sleep,
//! join and leave, and clients whose histories are checked.
//!
//! - [`run`]: one run.
//! - `world`: network, clocks, faults, and what must hold.
//! - `node`, `client`: the parties. `wire`: what they say. `model`: what objects do.
//!
//! `cargo run --release -p crucial-sim -- --seeds 0..10000` runs many.

// Everything here is for this crate's own binary and tests.
#![allow(missing_docs)]

mod client;
mod model;
mod node;
mod wire;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crucial_cluster::{Mutant, plant};

pub use world::{Broken, Report};

/// Runs the schedule of a seed, with a planted bug or none.
pub fn run(seed: u64, mutant: Option<Mutant>, trace: bool) -> Result<Report, Broken> {
    plant(mutant);
    let run = catch_unwind(AssertUnwindSafe(|| world::World::new(seed, trace).run()));
    plant(None);
    run.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().cloned();
        let message = message.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(Broken {
            seed,
            what: format!("panicked: {}", message.unwrap_or_default()),
        })
    })
}
