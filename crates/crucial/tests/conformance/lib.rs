//! The rows of the conformance list, each as a test through the public API, with real worker processes.
//!
//! A test executable that calls [`run`] has all roles: its `main` is `#[crucial::main]`, so it is its own worker, and its
//! own server (`conformance crucial server`).

use std::process::ExitCode;

use conformance::types;
use libtest_mimic::{Arguments, Failed, Trial};

mod cli;
mod coordination;
mod drop_in;
mod exactly_once;
mod failures;
mod histories;
mod library;
mod meeting;
mod objects;
mod operation;
mod output;
mod place;
mod processes;
mod program;
mod proxy;
mod raw;
mod recovery;
mod server;
mod shell;
mod threads;
mod totals;
mod uploaded;
mod values;

use server::Server;

/// What a test returns.
type Outcome = Result<(), Failed>;

/// A list of tests from a list of functions.
#[macro_export]
macro_rules! trials {
    ($($name:ident),+ $(,)?) => {
        vec![$(libtest_mimic::Trial::test(stringify!($name), || {
            $crate::place::row(stringify!($name), $name)
        })),+]
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
    if arguments.list {
        return libtest_mimic::run(&arguments, rows()).exit_code();
    }
    let server = start().expect("the servers start");
    // Returned and not by `exit`, so that the workers end.
    let code = libtest_mimic::run(&arguments, rows()).exit_code();
    drop(server);
    server::end_shared();
    code
}

/// The rows of this package.
fn rows() -> Vec<Trial> {
    match *uploaded::COMMAND {
        Some(_) => uploaded::rows(all()),
        None => all(),
    }
}

/// Starts what this process and its workers use, if that is not the embedded server.
fn start() -> Result<Option<Server>, Failed> {
    if let Some(command) = *uploaded::COMMAND {
        return Ok(Some(uploaded::start(command)?));
    }
    if !server::is_cluster() {
        return Ok(None);
    }
    let server = Server::start(&[])?;
    server.use_here()?;
    Ok(Some(server))
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
        failures::trials(),
        processes::trials(),
        operation::trials(),
        cli::trials(),
        shell::trials(),
        drop_in::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
