//! Rows D and E of the conformance list, with real server processes that are killed, paused, cut off and replaced.

use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed};

mod consistency;
mod elasticity;
mod once;
mod operation;
mod replicas;
mod rescue;

/// What a test returns.
type Outcome = Result<(), Failed>;

/// A list of tests from a list of functions.
#[macro_export]
macro_rules! trials {
    ($($name:ident),+ $(,)?) => {
        vec![$(libtest_mimic::Trial::test(stringify!($name), $name)),+]
    };
}

/// For what takes some time on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[crucial::main]
fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each test has three or more servers, and there are few cores.
    arguments.test_threads.get_or_insert(1);
    let trials = [
        consistency::trials(),
        elasticity::trials(),
        once::trials(),
        operation::trials(),
        replicas::trials(),
        rescue::trials(),
    ];
    let trials = trials.into_iter().flatten().collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
