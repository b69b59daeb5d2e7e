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
mod proxy;
mod raw;
mod recovery;
mod server;
mod shell;
mod threads;
mod totals;
mod types;
mod uploaded;
mod values;

use server::Server;

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

/// Rows that are not run on a cluster, each with the reason.
const NOT_ON_THREE: [(&str, &str); 1] = [(
    "c14_a_retried_thread_takes_the_place_of_its_attempt",
    "the hello of a retried attempt hides the session of the older attempt from the fence (crates/server/src/session.rs)",
)];

/// The rows of this package.
fn rows() -> Vec<Trial> {
    let rows = match uploaded::COMMAND {
        Some(_) => uploaded::rows(all()),
        None => all(),
    };
    rows.into_iter().map(unless_not_on_three).collect()
}

/// Marks a row of `NOT_ON_THREE` as ignored, and says why.
fn unless_not_on_three(row: Trial) -> Trial {
    let reason = NOT_ON_THREE.iter().find(|(name, _)| *name == row.name());
    match reason {
        Some((name, reason)) if server::is_cluster() => {
            eprintln!("{name} is ignored on a cluster: {reason}");
            row.with_ignored_flag(true)
        }
        _ => row,
    }
}

/// Starts what this process and its workers use, if that is not the embedded server.
fn start() -> Result<Option<Server>, Failed> {
    if let Some(command) = uploaded::COMMAND {
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
        operation::trials(),
        cli::trials(),
        shell::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
