//! A cluster in one thread, from a seed: the nodes of `crucial-node`, with a network that loses, repeats, delays and reorders,
//! clocks that drift, servers that die, sleep, join and leave, and clients whose histories are checked.
//!
//! - [`run`]: one run.
//! - `world`: who there is; `event`: what happens; `events`: and when.
//! - `process`: a server's process: a node, its connections, and the jobs that take long; `steps`: what comes to a process, and
//!   what it wants done.
//! - `client`: a client, as its program sees it; `thread`, `threads`, `attempt`: cloud threads, and the processes that run them; `caller`: its session, which is that of `crucial-client`, and its connections.
//! - `wire`: what travels; `network`: how it travels between nodes; `stream`, `streams`: between clients and nodes; `places`: from
//!   where to where.
//! - `control`: the control group; `decisions`: what comes to it, and what it decides. `fault`, `faults`: what goes
//!   wrong.
//! - `objects`: the objects; `brittle`: those that servers cannot always encode or decode; `model`: what they do when nothing goes wrong; `judge`: what must hold at the end.
//!
//! `cargo run --release -p crucial-sim -- --seeds 0..10000` runs many.

// Everything here is for this crate's own binary and tests.
#![allow(missing_docs)]

mod attempt;
mod brittle;
mod caller;
mod client;
mod control;
mod decisions;
mod event;
mod events;
mod fault;
mod faults;
mod judge;
mod model;
mod network;
mod objects;
mod places;
mod process;
mod steps;
mod stream;
mod streams;
mod thread;
mod threads;
mod wire;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crucial_node::replication::Mutant;

pub use fault::Kind;
pub use world::{Broken, Report};

/// Bugs that hardly any schedule shows, or that break no promise by themselves. They are planted in unit tests of the node
/// (`overlap.rs`, `keep.rs`).
pub const RARE: [Mutant; 9] = [
    Mutant::KeepsOutdated,
    Mutant::RepeatsAtOnce,
    Mutant::PongWithoutLease,
    Mutant::StaleNeeds,
    Mutant::NoReleaseAfterJoin,
    Mutant::BelievesOwnRank,
    Mutant::TooFewReplicas,
    Mutant::JoinsLacking,
    Mutant::JoinsAtOnce,
];

/// Runs the schedule of a seed, with a planted bug or none.
pub fn run(seed: u64, kind: Kind, mutant: Option<Mutant>, trace: bool) -> Result<Report, Broken> {
    Mutant::plant(mutant);
    let world = || world::World::new(seed, kind, trace).run();
    let run = catch_unwind(AssertUnwindSafe(world));
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
