//! The command line: a server, and objects for shell scripts. Also as `PROGRAM crucial ..`.
//! `docs/cli.md` is its page.

use std::ffi::OsString;

use clap::{Arg, Command, FromArgMatches, Subcommand};
use crucial_object::Error;

mod cluster;
mod lines;
mod modules;
mod objects;
mod print;
mod run;
mod server;
mod signals;
mod types;
#[cfg(feature = "cluster")]
mod up;
mod value;

use cluster::Clusters;
use modules::Modules;
use objects::Objects;
use value::Answer;

/// There is no value: a key that is not there, an attempt that failed.
const NO_VALUE: u8 = 3;
/// The time-out passed, as with timeout(1).
const TIMED_OUT: u8 = 124;

/// Runs a command, whose first argument is the name `crucial`, and ends the process.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ! {
    // Whoever started this has said what it is, also in a script that a cloud thread runs.
    crate::runtime::main_is_ours();
    let matches = command().get_matches_from(arguments);
    let code = match matches.subcommand() {
        Some(("server", matches)) => match server::run(matches) {
            Ok(()) => 0,
            Err(message) => fail(&message),
        },
        Some(("types", matches)) => match types::run(matches) {
            Ok(()) => 0,
            Err(message) => fail(&message),
        },
        #[cfg(feature = "cluster")]
        Some(("up", matches)) => match up::run(matches) {
            Ok(()) => 0,
            Err(message) => fail(&message),
        },
        _ => objects(&matches),
    };
    // The run ends here, as at the end of a `main`.
    crate::runtime::end();
    std::process::exit(code.into())
}

/// Whether this executable is a program with another purpose, of which the command line is one role.
#[cfg(feature = "cluster")]
fn is_program() -> bool {
    std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == "crucial")
}

fn command() -> Command {
    let command = Command::new("crucial")
        .after_help(
            "Exit status: 0; 1 for an error; 2 for wrong usage; 3 where there is no value; 124 for a time-out.",
        )
        .subcommand_required(true)
        .arg(
            Arg::new("cluster")
                .long("cluster")
                .global(true)
                .value_name("ADDRESS")
                .help(
                    "The server, as in CRUCIAL_CLUSTER: HOST:PORT or unix:PATH; of a cluster any, or several with commas",
                ),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .global(true)
                .action(clap::ArgAction::SetTrue)
                .help("Prints one JSON value"),
        )
        .subcommand(server::command())
        .subcommand(types::command());
    #[cfg(feature = "cluster")]
    let command = command.subcommand(up::command());
    let command = Clusters::augment_subcommands(Modules::augment_subcommands(command));
    Objects::augment_subcommands(command)
        .about("Threads as serverless functions, over distributed shared objects")
}

fn objects(matches: &clap::ArgMatches) -> u8 {
    let outcome = signals::listen().and_then(|()| call(matches));
    signals::settle();
    let printed = outcome.and_then(|answer| {
        answer.print(matches.get_flag("json"))?;
        Ok(answer.code(NO_VALUE))
    });
    match printed {
        Ok(code) => code,
        Err(error @ Error::TimedOut { .. }) => {
            print::error(error);
            TIMED_OUT
        }
        Err(error) => fail(&error.to_string()),
    }
}

fn call(matches: &clap::ArgMatches) -> crucial_object::Result<Answer> {
    let connect = || connect(matches.get_one::<String>("cluster"));
    match Modules::from_arg_matches(matches) {
        Ok(command) if command.needs_server(has_server(matches)) => {
            connect().and_then(|()| command.run())
        }
        Ok(command) => command.run(),
        Err(_) => match Clusters::from_arg_matches(matches) {
            Ok(command) => connect().and_then(|()| command.run()),
            Err(_) => match Objects::from_arg_matches(matches) {
                Ok(command) => connect().and_then(|()| command.run()),
                Err(error) => error.exit(),
            },
        },
    }
}

/// Whether a server is named.
fn has_server(matches: &clap::ArgMatches) -> bool {
    matches.contains_id("cluster") || std::env::var_os("CRUCIAL_CLUSTER").is_some()
}

/// Objects that outlive a command live on a server that does.
fn connect(cluster: Option<&String>) -> crucial_object::Result<()> {
    let mut config = crate::Config::from_env()?;
    if let Some(address) = cluster {
        config.cluster = Some(address.parse()?);
    }
    if config.cluster.is_none() {
        return Err(Error::Config {
            detail:
                "there is no server: start one with `crucial server`, and name it with --cluster \
                     or CRUCIAL_CLUSTER"
                    .to_owned(),
        });
    }
    crate::init(config)
}

fn fail(message: &str) -> u8 {
    print::error(message);
    1
}
