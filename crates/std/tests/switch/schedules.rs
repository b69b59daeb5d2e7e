//! Runs a test in many schedules.

use std::sync::Arc;

use crucial_object::caller::{self, Caller};
use crucial_object::{decode, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::thread::{self, JoinHandle};
use shuttle::{Config, Runner};

use crate::server::Server;

/// The first seed; all that is random follows from it, so that each run of the tests tries the same schedules.
const SEED: u64 = 1;

/// Enough for the deepest call in a debug build.
const STACK_BYTES: usize = 512 << 10;

/// Switches from one thread to another at the worst place, for schedules by priority.
const SWITCHES: usize = 3;

/// How many schedules of either kind.
const SCHEDULES: usize = 5000;

fn run(scheduler: impl Scheduler + 'static, test: fn()) {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.silence_warnings = true;
    let server = || -> Arc<dyn Caller> { Arc::new(Server::default()) };
    let run = || Runner::new(scheduler, config).run(move || caller::with(server(), test));
    // A schedule that fails leaves its server behind, which goes here.
    caller::with(server(), run);
}

/// Runs a test in random schedules, and in as many by random priorities; in `LOCKS_TIMES` as many if that is set. The
/// schedule of a failure is printed: `shuttle::replay` runs it again.
pub fn explore(test: fn()) {
    let times = std::env::var("LOCKS_TIMES").map(|times| times.parse().expect("a number"));
    let schedules = SCHEDULES * times.unwrap_or(1);
    run(RandomScheduler::new_from_seed(SEED, schedules), test);
    run(PctScheduler::new_from_seed(SEED, SWITCHES, schedules), test);
}

/// Runs a test in one schedule.
pub fn once(test: fn()) {
    run(RandomScheduler::new_from_seed(SEED, 1), test);
}

/// What another process gets of a primitive, which is shared by that.
pub fn travel<T: Serialize + DeserializeOwned>(primitive: &T) -> T {
    decode(&encode(primitive).unwrap()).unwrap()
}

/// Starts a thread of this process that has the primitive.
pub fn spawn<T, R>(primitive: &Arc<T>, run: impl FnOnce(&T) -> R + Send + 'static) -> JoinHandle<R>
where
    T: Send + Sync + 'static,
    R: Send + 'static,
{
    let primitive = primitive.clone();
    thread::spawn(move || run(&primitive))
}

/// Waits for threads.
pub fn join<R>(threads: impl IntoIterator<Item = JoinHandle<R>>) -> Vec<R> {
    let threads = threads.into_iter();
    threads.map(|thread| thread.join().unwrap()).collect()
}
