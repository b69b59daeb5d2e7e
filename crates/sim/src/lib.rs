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
//! - `control`: the control group and its leaders; `decisions`: what comes to them, and what they decide.
//! - `fault`, `faults`: what goes wrong; `elections`: with leaders of the control group.
//! - `modules`: uploaded types; `works`: their bytes on disks, and their code; `pushes`: what clients ask for; `module_checks`:
//!   what must hold of them.
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
mod elections;
mod event;
mod events;
mod fault;
mod faults;
mod judge;
mod model;
mod module_checks;
mod modules;
mod network;
mod objects;
mod places;
mod process;
mod pushes;
mod steps;
mod stream;
mod streams;
mod thread;
mod threads;
mod wire;
mod works;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crucial_node::catalog::CatalogMutant;
use crucial_node::replication::Mutant;

pub use fault::Kind;
pub use world::{Broken, Report};

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    Replication(Mutant),
    Modules(CatalogMutant),
}

impl Bug {
    /// All bugs that can be planted.
    pub fn all() -> impl Iterator<Item = Bug> {
        let modules = CatalogMutant::ALL.into_iter().map(Bug::Modules);
        let replication = Mutant::ALL.into_iter().map(Bug::Replication);
        replication.chain(modules)
    }

    /// Plants a bug in this thread, or none.
    fn plant(bug: Option<Bug>) {
        Mutant::plant(match bug {
            Some(Bug::Replication(mutant)) => Some(mutant),
            _ => None,
        });
        CatalogMutant::plant(match bug {
            Some(Bug::Modules(mutant)) => Some(mutant),
            _ => None,
        });
    }

    /// Whether the schedule of a seed can show it.
    pub fn may_show_in(self, seed: u64) -> bool {
        let is_about_modules = match self {
            Bug::Replication(mutant) => OF_MODULES.contains(&mutant),
            Bug::Modules(_) => true,
        };
        !is_about_modules || seed.is_multiple_of(world::MODULES_IN)
    }

    /// Whether hardly any schedule shows it.
    pub fn is_rare(self) -> bool {
        match self {
            Bug::Replication(mutant) => RARE.contains(&mutant),
            Bug::Modules(mutant) => RARE_OF_MODULES.contains(&mutant),
        }
    }
}

/// Bugs that hardly any schedule shows, or that break no promise by themselves. They are planted in unit tests of the node
/// (`overlap.rs`, `keep.rs`); but for `FencedWaitsOn`, which 11 700 schedules do not show.
pub const RARE: [Mutant; 10] = [
    Mutant::FencedWaitsOn,
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

/// Bugs that only clients show which push modules.
pub const OF_MODULES: [Mutant; 3] = [
    Mutant::PushesTwice,
    Mutant::TakesUnknownCode,
    Mutant::KeepsOldCode,
];

/// Bugs of modules that hardly any schedule shows: modules are of one piece here, and two servers seldom push and remove the
/// same one within a moment. `crates/node/tests/catalog.rs` finds them among catalogs without nodes.
pub const RARE_OF_MODULES: [CatalogMutant; 3] = [
    CatalogMutant::StaleAnswers,
    CatalogMutant::ShortFetch,
    CatalogMutant::DropAcrossMoves,
];

/// Runs the schedule of a seed, with a planted bug or none.
pub fn run(seed: u64, kind: Kind, bug: Option<Bug>, trace: bool) -> Result<Report, Broken> {
    Bug::plant(bug);
    let world = || world::World::new(seed, kind, trace).run();
    let run = catch_unwind(AssertUnwindSafe(world));
    Bug::plant(None);
    run.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().cloned();
        let message = message.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(Broken {
            seed,
            what: format!("panicked: {}", message.unwrap_or_default()),
        })
    })
}
