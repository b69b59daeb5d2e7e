//! The rows of the conformance list, each as a test through the public API, with real worker processes.
//!
//! A test executable that calls [`run`] has all roles: its `main` is `#[crucial::main]`, so it is its own worker, and its
//! own server (`conformance crucial server`).

use std::process::ExitCode;

use conformance::types;
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
mod shell;
mod threads;
mod totals;
mod uploaded;
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

/// Runs the rows: with the types uploaded to the `crucial` command at `command` those that are about user types, without
/// a command all.
pub fn run(command: Option<&'static str>) -> ExitCode {
    uploaded::set_command(command);
    // The same executable, as the programs that some tests start.
    if let Some(name) = std::env::var_os(program::ROLE) {
        program::run(&name.to_string_lossy());
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let (trials, _server) = match *uploaded::COMMAND {
        None => (all(), None),
        Some(_) if arguments.list => (uploaded::rows(all()), None),
        Some(command) => {
            let server = uploaded::start(command).expect("the types are uploaded");
            (uploaded::rows(all()), Some(server))
        }
    };
    // Returned and not by `exit`, so that the workers end.
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn all() -> Vec<Trial> {
    [
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
        shell::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
