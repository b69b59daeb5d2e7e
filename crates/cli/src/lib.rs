//! The command line of Crucial: servers, clusters, modules, and shared objects for shell scripts.
//!
//! The same commands are those of the executable `crucial` and of `PROGRAM crucial ..` for programs of users, whose
//! facade calls [`run`]. `docs/cli.md` is the manual.

use std::any::TypeId;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, Command, FromArgMatches, Subcommand};
use crucial_object::Error;
use crucial_runtime::{Config, roles, runtime};

mod cluster;
mod data;
mod lines;
mod modules;
mod new;
mod objects;
mod print;
mod program;
mod rescue;
mod server;
mod signals;
mod types;
mod up;
mod value;

use cluster::Clusters;
use modules::Modules;
use objects::Objects;
use value::Answer;

/// Exit status: there is no value, because a key is missing or an attempt failed.
const NO_VALUE: u8 = 3;
/// Exit status: the time-out has passed, as with timeout(1).
const TIMED_OUT: u8 = 124;

/// Runs a command, whose first argument is the name `crucial`, and ends the process.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ! {
    // Also in a script that a cloud thread runs: the explicit command comes before the environment of a worker.
    runtime::declare_roles();
    roles::hear_of_children();
    let matches = command().get_matches_from(arguments);
    let code = match matches.subcommand() {
        Some(("server", matches)) => code(server::run(matches)),
        Some(("types", matches)) => code(types::run(matches)),
        Some(("new", matches)) => code(new::run(matches)),
        Some(("up", matches)) => code(up::run(matches)),
        _ => objects(&matches),
    };
    // The run ends here, as at the end of a `main`.
    runtime::end();
    std::process::exit(code.into())
}

/// The exit status of a command without a value.
fn code(outcome: Result<(), String>) -> u8 {
    match outcome {
        Ok(()) => 0,
        Err(message) => fail(&message),
    }
}

fn command() -> Command {
    let command = Command::new("crucial")
        .version(env!("CARGO_PKG_VERSION"))
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
                    "The server, as in CRUCIAL_CLUSTER: HOST:PORT or unix:PATH; any servers of a cluster, separated by commas",
                ),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .global(true)
                .action(clap::ArgAction::SetTrue)
                .help("Print the result as one JSON value"),
        )
        .subcommand(server::command())
        .subcommand(types::command())
        .subcommand(new::command());
    let command = match server::CAN_JOIN {
        true => command.subcommand(up::command()),
        false => command,
    };
    let command = Clusters::augment_subcommands(Modules::augment_subcommands(command));
    let command = Objects::augment_subcommands(command)
        .about("Threads as serverless functions, over distributed shared objects");
    with_signs(command)
}

/// Lets the values of options begin with a hyphen, so that a number below 0 is refused with the range in which it must be,
/// and not as an unknown option. (Of a text only if it is a number: `--file --threads 2` lacks the file.)
fn with_signs(command: Command) -> Command {
    let texts = [
        TypeId::of::<String>(),
        TypeId::of::<OsString>(),
        TypeId::of::<PathBuf>(),
    ];
    let command = command.mut_args(|arg| {
        let kind = arg.get_value_parser().type_id();
        match arg.get_action().takes_values() {
            true if arg.is_positional() || texts.iter().any(|text| kind == *text) => {
                arg.allow_negative_numbers(true)
            }
            true => arg.allow_hyphen_values(true),
            false => arg,
        }
    });
    command.mut_subcommands(with_signs)
}

fn objects(matches: &clap::ArgMatches) -> u8 {
    let outcome = signals::listen().and_then(|()| call(matches));
    signals::wait_if_ending();
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
            Ok(command) if command.needs_client() => connect().and_then(|()| command.run()),
            Ok(command) => command.run(),
            Err(_) => match Objects::from_arg_matches(matches) {
                Ok(command) => connect().and_then(|()| command.run()),
                Err(error) => error.exit(),
            },
        },
    }
}

/// Whether the user has named a server.
fn has_server(matches: &clap::ArgMatches) -> bool {
    matches.contains_id("cluster") || std::env::var_os("CRUCIAL_CLUSTER").is_some()
}

/// Starts the runtime, without an embedded server: its objects would end with the command.
fn connect(cluster: Option<&String>) -> crucial_object::Result<()> {
    let mut config = Config::from_env()?;
    if let Some(address) = cluster {
        config.cluster = Some(address.parse()?);
    }
    if config.cluster.is_none() {
        return Err(Error::Config {
            detail:
                "no server is named: start one with `crucial server`, and name it with --cluster or \
                     CRUCIAL_CLUSTER"
                    .to_owned(),
        });
    }
    runtime::init(config)
}

fn fail(message: &str) -> u8 {
    print::error(message);
    1
}
