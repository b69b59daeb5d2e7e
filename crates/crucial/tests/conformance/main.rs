//! The rows of the conformance list, each as a test through the public API, with real worker processes.
//!
//! This executable has all roles: its `main` is `#[crucial::main]`, so it is its own worker, and its own
//! server (`conformance crucial server`).

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

mod cli;
mod coordination;
mod exactly_once;
mod histories;
mod library;
mod meeting;
mod objects;
mod operation;
mod output;
mod program;
mod raw;
mod recovery;
mod threads;
mod totals;
mod types;
mod values;

/// What a test returns.
type Outcome = Result<(), Failed>;

/// A list of tests from a list of functions.
#[macro_export]
macro_rules! trials {
    ($($name:ident),+ $(,)?) => {
        vec![$(libtest_mimic::Trial::test(stringify!($name), $name)),+]
    };
}

#[crucial::main]
fn main() -> ExitCode {
    // The same executable, as the programs that some tests start.
    if let Some(name) = std::env::var_os(program::ROLE) {
        program::run(&name.to_string_lossy());
        return ExitCode::SUCCESS;
    }
    let trials: Vec<Trial> = [
        objects::trials(),
        values::trials(),
        library::trials(),
        coordination::trials(),
        meeting::trials(),
        exactly_once::trials(),
        recovery::trials(),
        histories::trials(),
        totals::trials(),
        threads::trials(),
        output::trials(),
        operation::trials(),
        cli::trials(),
    ]
    .into_iter()
    .flatten()
    .collect();
    // Returned and not by `exit`, so that the workers end.
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
