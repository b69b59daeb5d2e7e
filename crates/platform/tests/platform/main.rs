//! Tests of the platforms through the public API, with real worker processes: this executable is its own worker.

use libtest_mimic::{Arguments, Trial};

mod group;
mod handler;
mod hostile;
mod invocations;
mod lifecycle;
mod limits;
mod nested;
mod output;
mod rendezvous;
mod suite;
mod warm;

use crucial_platform::worker;

/// Makes a list of tests from a list of functions.
macro_rules! trials {
    ($($name:ident),+ $(,)?) => {
        vec![$(libtest_mimic::Trial::test(stringify!($name), || { $name(); Ok(()) })),+]
    };
}
pub(crate) use trials;

fn main() {
    if worker::is_worker() {
        output::greet();
        lifecycle::refuse();
        worker::run(&handler::Tester);
    }
    if lifecycle::is_parent() {
        lifecycle::run_parent();
    }
    limits::hold_if_asked();
    limits::run_many_if_asked();
    let trials: Vec<Trial> = [
        suite::trials(),
        warm::trials(),
        lifecycle::trials(),
        limits::trials(),
        output::trials(),
        hostile::trials(),
        group::trials(),
        nested::trials(),
    ]
    .into_iter()
    .flatten()
    .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
