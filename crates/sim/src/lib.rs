//! A cluster in one thread, from a seed: the nodes of `crucial-node`, with a network that loses, repeats, delays and reorders,
//! clocks that drift, servers that die, sleep, join and leave, and clients whose histories are checked.
//!
//! - [`run`]: one run.
//! - `world`: who there is, and what happens when (`events`).
//! - `process`: a server's process: a node, its connections, and the jobs that take long; `steps`: what comes to a process, and
//!   what it wants done.
//! - `client`: a client, as its program sees it; `caller`: its session, which is that of `crucial-client`, and its connections.
//! - `wire`: what travels; `network`: how it travels between nodes; `streams`: between clients and nodes; `places`: from where to
//!   where.
//! - `control`: the control group; `decisions`: what comes to it, and what it decides. `faults`: what goes wrong.
//! - `objects`: the objects; `model`: what they do when nothing goes wrong; `judge`: what must hold at the end.
//!
//! `cargo run --release -p crucial-sim -- --seeds 0..10000` runs many.

// Everything here is for this crate's own binary and tests.
#![allow(missing_docs)]

mod caller;
mod client;
mod control;
mod decisions;
mod events;
mod faults;
mod judge;
mod model;
mod network;
mod objects;
mod places;
mod process;
mod steps;
mod streams;
mod wire;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crucial_node::replication::Mutant;

pub use world::{Broken, Report};

/// Runs the schedule of a seed, with a planted bug or none.
pub fn run(seed: u64, mutant: Option<Mutant>, trace: bool) -> Result<Report, Broken> {
    Mutant::plant(mutant);
    let run = catch_unwind(AssertUnwindSafe(|| world::World::new(seed, trace).run()));
    Mutant::plant(None);
    run.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().cloned();
        let message = message.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(Broken {
            seed,
            what: format!("panicked: {}", message.unwrap_or_default()),
        })
    })
}
