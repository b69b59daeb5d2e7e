//! The platforms through the public API, with real worker processes: this executable is its own worker.

use libtest_mimic::{Arguments, Trial};

mod handler;
mod hostile;
mod invoke;
mod life;
mod limits;
mod meeting;
mod output;
mod suite;
mod warm;

use crucial_platform::worker;

/// A list of tests from a list of functions.
macro_rules! trials {
    ($($name:ident),+ $(,)?) => {
        vec![$(libtest_mimic::Trial::test(stringify!($name), || { $name(); Ok(()) })),+]
    };
}
pub(crate) use trials;

fn main() {
    if worker::is_worker() {
        output::greet();
        life::refuse();
        worker::run(&handler::Tester);
    }
    if life::is_parent() {
        life::be_parent();
    }
    let trials: Vec<Trial> = [
        suite::trials(),
        warm::trials(),
        life::trials(),
        limits::trials(),
        output::trials(),
        hostile::trials(),
    ]
    .into_iter()
    .flatten()
    .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
