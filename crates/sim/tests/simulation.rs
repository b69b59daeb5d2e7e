//! What each run of the tests looks at; `cargo run --release -p crucial-sim -- --seeds A..B` looks at more.

use crucial_node::replication::Mutant;
use crucial_sim::run;

#[test]
fn no_schedule_breaks_a_promise() {
    let (mut requests, mut faults, mut lost) = (0, 0, 0);
    for seed in 0..400 {
        match run(seed, None, false) {
            Ok(report) => {
                requests += report.operations;
                faults += report.faults;
                lost += report.lost;
            }
            Err(broken) => panic!("seed {seed}: {}", broken.what),
        }
    }
    // They did what they are for.
    assert!(requests > 40_000, "{requests} requests");
    assert!(faults > 1_000, "{faults} faults");
    assert!(lost > 50, "{lost} objects of one replica lost");
}

#[test]
fn the_same_seed_is_the_same_run() {
    let once = run(7, None, false).map(|report| format!("{report:?}"));
    let again = run(7, None, false).map(|report| format!("{report:?}"));
    assert_eq!(once.ok(), again.ok());
}

#[test]
fn a_trace_shows_what_servers_say_to_each_other() {
    // A message that cannot be decoded ends the run.
    let report = run(3, None, true);
    assert!(
        report.is_ok(),
        "{}",
        report.err().map_or(String::new(), |broken| broken.what)
    );
}

#[test]
fn planted_bugs_are_found() {
    // A bug that few schedules show is left to `sim --mutants`: it needs a leaving primary that misses a view.
    let quick = Mutant::ALL
        .into_iter()
        .filter(|mutant| *mutant != Mutant::ServeInHandOver);
    for mutant in quick {
        let found = (0..3000).find(|seed| run(*seed, Some(mutant), false).is_err());
        assert!(
            found.is_some(),
            "{mutant:?} breaks no promise in 3000 schedules"
        );
    }
}
