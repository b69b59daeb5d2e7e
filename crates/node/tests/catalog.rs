//! Modules of a cluster in a simulation: catalogs of some servers, the control group's state machine, a network that
//! loses, repeats, delays and damages, servers that die, are evicted and join, and clients that push and remove
//! modules. All of it comes from a seed.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test has the world that the node has not"
)]

mod catalog_world;

use catalog_world::{Report, Shape, World};

fn run(seeds: std::ops::Range<u64>) -> Report {
    let mut report = Report::default();
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| World::new(seed, Shape::of(seed)).run());
        match outcome {
            Ok(one) => report.add(one),
            Err(panic) => {
                eprintln!("seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    report
}

/// `CATALOG_SEEDS` says how many schedules.
#[test]
fn all_servers_end_with_the_same_types_whatever_fails() {
    let seeds = std::env::var("CATALOG_SEEDS").ok();
    let seeds = seeds.map_or(2_000, |seeds| seeds.parse().expect("a number of seeds"));
    let report = run(0..seeds);
    println!("{report:#?}");
    // Schedules in which nothing happens would show nothing.
    let happened = [
        report.pushed,
        report.moved,
        report.refused,
        report.unavailable,
        report.removed,
        report.swept,
        report.evicted,
        report.overtaken,
        report.handed_over,
    ];
    assert!(
        happened.iter().all(|count| *count > seeds / 100),
        "{report:?}"
    );
}

#[test]
fn a_schedule_comes_from_its_seed() {
    let trace = |seed| World::new(seed, Shape::of(seed)).run();
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}

#[cfg(feature = "mutants")]
#[test]
fn planted_bugs_are_found() {
    use crucial_node::catalog::CatalogMutant;
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    // Without objects nobody sees that a member uses what was dropped: `crates/sim` does.
    let all = CatalogMutant::ALL.into_iter();
    for mutant in all.filter(|mutant| *mutant != CatalogMutant::ReleasesEarly) {
        CatalogMutant::plant(Some(mutant));
        let finds = |seed| {
            let run = || World::new(seed, Shape::of(seed)).run();
            std::panic::catch_unwind(run).is_err()
        };
        match (0..4_000).find(|seed| finds(*seed)) {
            Some(seed) => eprintln!("{mutant:?}: seed {seed}"),
            None => missed.push(mutant),
        }
    }
    CatalogMutant::plant(None);
    std::panic::set_hook(hook);
    assert_eq!(missed, []);
}
