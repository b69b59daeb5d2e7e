//! Runs a test in many schedules.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crucial_node::sync::LockMutant;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, Runner};

/// The first seed; all that is random follows from it, so that each run of the tests tries the same schedules.
const SEED: u64 = 1;

/// Enough for the deepest call in a debug build.
const STACK_BYTES: usize = 512 << 10;

/// Switches from one thread to another at the worst place, for schedules by priority.
const SWITCHES: usize = 3;

/// A planted bug has to be found in this number of schedules.
const PLANTED_MAX: usize = 4000;

fn config(failure_persistence: FailurePersistence) -> Config {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.failure_persistence = failure_persistence;
    config.silence_warnings = true;
    config
}

fn run(
    scheduler: impl Scheduler + 'static,
    config: Config,
    test: impl Fn() + Send + Sync + 'static,
) {
    Runner::new(scheduler, config).run(test);
}

/// Runs a test in this number of random schedules, and in as many by random priorities; in `LOCKS_TIMES` as many if that is
/// set. The schedule of a failure is printed: `shuttle::replay` runs it again.
pub fn explore(schedules: usize, test: fn()) {
    let times = std::env::var("LOCKS_TIMES").map(|times| times.parse().expect("a number"));
    let schedules = schedules * times.unwrap_or(1);
    let config = config(FailurePersistence::Print);
    let random = RandomScheduler::new_from_seed(SEED, schedules);
    let by_priorities = PctScheduler::new_from_seed(SEED, SWITCHES, schedules);
    run(random, config.clone(), test);
    run(by_priorities, config, test);
}

/// Runs a test with a planted bug until a schedule by priorities fails. Gives how many that took; `None`: none of them
/// failed.
pub fn find(mutant: LockMutant, test: fn()) -> Option<usize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = {
        let count = count.clone();
        move || {
            count.fetch_add(1, Ordering::Relaxed);
            test();
        }
    };
    let scheduler = PctScheduler::new_from_seed(SEED, SWITCHES, PLANTED_MAX);
    LockMutant::plant(Some(mutant));
    let result = catch_unwind(AssertUnwindSafe(|| {
        run(scheduler, config(FailurePersistence::None), counted);
    }));
    LockMutant::plant(None);
    result.is_err().then(|| count.load(Ordering::Relaxed))
}
