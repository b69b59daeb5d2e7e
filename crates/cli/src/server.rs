//! `crucial server`.
//!
//! This is the only file of the command line that knows which parts the server was built with: uploaded modules, and the
//! control group of a cluster.

use std::ops::RangeInclusive;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command};
use crucial_proto::Endpoint;
use crucial_proto::frame::REPLICAS_MAX;
use crucial_server::{Config, Limits, Parts, Server};
use signal_hook::iterator::Signals;

use super::value::within;
use super::{print, signals};

/// A server of `crucial up` ends with that command, however that ends.
pub const WITH_PARENT: &str = "end-with-parent";

/// More threads than that are no help on any machine.
const THREADS_MAX: usize = 10_000;

/// A day, for what the server keeps of clients that have died, and for what it lets a method take.
const LEASE_MS_MAX: usize = 24 * 3600 * 1000;

/// A second.
const SPIN_US_MAX: usize = 1_000_000;

/// A month: a cluster may be waited for.
#[cfg(feature = "cluster")]
const JOIN_PATIENCE_S_MAX: usize = 31 * 24 * 3600;

/// A frame has its length in 32 bits, and room for what every request has.
const FRAME_BYTES: RangeInclusive<usize> = 1024..=u32::MAX as usize;

/// At least one, and as many as there is memory for.
const ANY: RangeInclusive<usize> = 1..=isize::MAX as usize;

/// The default address.
const LISTEN: &str = "127.0.0.1:7171";

/// Whether servers can form a cluster.
pub const CAN_JOIN: bool = cfg!(feature = "cluster");

/// The command.
pub fn command() -> Command {
    Command::new("server")
        .about("Runs a server of shared objects until a signal ends it: in a cluster its objects are moved first")
        .args(server_arguments())
        .args(part_arguments())
}

/// The arguments of the parts that the server was built with.
fn part_arguments() -> Vec<Arg> {
    #[cfg_attr(not(any(feature = "modules", feature = "cluster")), expect(unused_mut))]
    let mut arguments = Vec::new();
    #[cfg(feature = "modules")]
    arguments.extend(modules::arguments());
    #[cfg(feature = "cluster")]
    arguments.extend(cluster::arguments());
    arguments
}

fn number(
    name: &'static str,
    default: usize,
    range: RangeInclusive<usize>,
    help: &'static str,
) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("N")
        .value_parser(within(range))
        .default_value(default.to_string())
        .help(help)
}

fn server_arguments() -> Vec<Arg> {
    let limits = Limits::default();
    vec![
        Arg::new("listen")
            .long("listen")
            .value_name("ADDRESS")
            .value_parser(|text: &str| text.parse::<Endpoint>())
            .action(clap::ArgAction::Append)
            .default_value(LISTEN)
            .help("The address to listen on: HOST:PORT (port 0: any free port) or unix:PATH; may be repeated"),
        number(
            "threads",
            0,
            0..=THREADS_MAX,
            "Threads that execute calls; 0: one for each core",
        ),
        number(
            "lease-ms",
            10_000,
            100..=LEASE_MS_MAX,
            "The session of a client that is silent for this long ends",
        ),
        number(
            "spin-us",
            50,
            0..=SPIN_US_MAX,
            "How long a thread spins before it sleeps, where spinning pays off; 0: never",
        ),
        number(
            "min-replicas",
            1,
            1..=REPLICAS_MAX.into(),
            "In a cluster: how many servers must have a change of an object with as many replicas before it is acknowledged; with fewer it waits. The same at all servers",
        ),
        Arg::new(WITH_PARENT)
            .long(WITH_PARENT)
            .action(clap::ArgAction::SetTrue)
            .hide(true),
        Arg::new("at-least-once")
            .long("at-least-once")
            .action(clap::ArgAction::SetTrue)
            .help(
                "Keep no completion records: repeated calls are executed again. For measurements",
            ),
        number(
            "frame-bytes-max",
            limits.frame_bytes_max,
            FRAME_BYTES,
            "Largest request or reply",
        ),
        number(
            "connections-max",
            limits.connections_max,
            ANY,
            "Open connections",
        ),
        number("objects-max", limits.objects_max, ANY, "Objects"),
        number(
            "parked-calls-max",
            limits.parked_calls_max,
            ANY,
            "Calls that wait inside one object",
        ),
        number(
            "queued-calls-max",
            limits.queued_calls_max,
            ANY,
            "Calls that queue for one object",
        ),
        number(
            "unacknowledged-calls-max",
            limits.unacknowledged_calls_max,
            ANY,
            "Calls of one session behind the first one that it has not acknowledged",
        ),
        number(
            "unsent-bytes-max",
            limits.unsent_bytes_max,
            ANY,
            "Bytes of replies that one client has not read",
        ),
        number(
            "long-methods-max",
            limits.long_methods_max,
            1..=THREADS_MAX,
            "Long methods that run at the same time",
        ),
        number(
            "peer-frame-bytes-max",
            limits.peer_frame_bytes_max,
            FRAME_BYTES,
            "Largest object that servers of a cluster send to each other",
        ),
        number(
            "waiting-requests-max",
            limits.waiting_requests_max,
            ANY,
            "Requests that wait for one partition while no primary serves it",
        ),
    ]
}

#[cfg(feature = "modules")]
mod modules {
    use std::path::PathBuf;

    use clap::value_parser;
    use crucial_modules::{Limits as ModuleLimits, Source};

    use super::*;

    /// The arguments of a server with uploaded modules.
    pub fn arguments() -> Vec<Arg> {
        let limits = ModuleLimits::default();
        vec![
            Arg::new("module-cache")
                .long("module-cache")
                .value_name("DIRECTORY")
                .value_parser(value_parser!(PathBuf))
                .help(
                    "The directory of compiled modules; by default in the user's cache directory",
                ),
            number(
                "module-bytes-max",
                limits.module_bytes_max,
                ANY,
                "Largest module",
            ),
            number(
                "instances-max",
                limits.instances_max,
                ANY,
                "Uploaded objects that are kept as instances; others are bytes until they are called",
            ),
            number(
                "instances-bytes-max",
                limits.instances_bytes_max,
                ANY,
                "Memory of all instances",
            ),
            number(
                "instance-bytes-max",
                limits.instance_bytes_max,
                ANY,
                "Memory of one uploaded object",
            ),
            number(
                "reply-bytes-max",
                limits.reply_bytes_max,
                ANY,
                "Largest state, result or ticket of an uploaded object",
            ),
            number(
                "method-time-max-ms",
                limits.method_time_max.as_millis() as usize,
                1..=LEASE_MS_MAX,
                "How long a method of an uploaded object may take",
            ),
        ]
    }

    /// The source of uploaded types.
    pub fn source(matches: &ArgMatches) -> Source {
        Source::new(limits(matches), cache(matches))
    }

    fn limits(matches: &ArgMatches) -> ModuleLimits {
        let number = |name: &str| {
            *matches
                .get_one::<usize>(name)
                .expect("the argument has a default")
        };
        ModuleLimits {
            module_bytes_max: number("module-bytes-max"),
            instances_max: number("instances-max"),
            instances_bytes_max: number("instances-bytes-max"),
            instance_bytes_max: number("instance-bytes-max"),
            reply_bytes_max: number("reply-bytes-max"),
            method_time_max: Duration::from_millis(number("method-time-max-ms") as u64),
        }
    }

    fn cache(matches: &ArgMatches) -> Option<PathBuf> {
        let chosen = matches.get_one::<PathBuf>("module-cache").cloned();
        let directory = |name| std::env::var_os(name).map(PathBuf::from);
        chosen.or_else(|| {
            let of_user =
                directory("XDG_CACHE_HOME").or_else(|| Some(directory("HOME")?.join(".cache")))?;
            Some(of_user.join("crucial/modules"))
        })
    }
}

#[cfg(feature = "cluster")]
mod cluster {
    use crucial_control::{Voter, VoterConfig};

    use super::*;
    use crate::data::{self, DataDirectory};
    use crate::value::reachable;

    /// The arguments of a server of a cluster.
    pub fn arguments() -> Vec<Arg> {
        vec![
            Arg::new("join")
                .long("join")
                .value_name("ADDRESS,..")
                .value_delimiter(',')
                .value_parser(reachable)
                .action(clap::ArgAction::Append)
                .help(
                    "Join a cluster: its present or future servers, HOST:PORT; a name may have several addresses. If no \
                     server of the list is in a cluster, the first one founds it",
                ),
            data::argument()
                .help(
                    "The directory for the server's identity and votes. Without --join the server founds a cluster, or \
                     rejoins that of the directory. By default a temporary directory",
                ),
            Arg::new("advertise")
                .long("advertise")
                .value_name("HOST:PORT")
                .value_parser(reachable)
                .help("The address at which others reach this server, if it is not the address to listen on"),
            number(
                "server-lease-ms",
                1000,
                200..=LEASE_MS_MAX,
                "A server of the cluster that is silent for this long stops serving and is replaced; must be the same at all servers",
            ),
            number(
                "join-patience-s",
                30,
                0..=JOIN_PATIENCE_S_MAX,
                "How long the server tries to join",
            ),
            Arg::new("expect")
                .long("expect")
                .value_name("N")
                .value_parser(within(1..=u16::MAX))
                .requires("join")
                .help(
                    "How many servers a new cluster has; as many as --join names. The first of --join founds it once most of them are there and know of no cluster",
                ),
        ]
    }

    /// The server's data, and its part in the control group.
    pub type Chosen = (Option<DataDirectory>, Option<Voter>);

    /// The server's part in the control group; none for a server that is alone.
    pub fn voter(matches: &ArgMatches) -> Result<Chosen, String> {
        let number = |name: &str| {
            *matches
                .get_one::<usize>(name)
                .expect("the argument has a default") as u64
        };
        let join: Vec<String> = matches
            .get_many("join")
            .into_iter()
            .flatten()
            .map(|address: &String| address.trim().to_owned())
            .collect();
        if data::named(matches).is_none() && join.is_empty() {
            return Ok((None, None));
        }
        let directory = DataDirectory::of(matches)?;
        let config = VoterConfig {
            address: matches.get_one("advertise").cloned(),
            join,
            expect: matches
                .get_one::<u16>("expect")
                .map(|count| usize::from(*count)),
            patience: Duration::from_secs(number("join-patience-s")),
            lease: Duration::from_millis(number("server-lease-ms")),
            ..VoterConfig::new(directory.path().to_owned())
        };
        Ok((Some(directory), Some(Voter::open(config)?)))
    }
}

fn config(matches: &ArgMatches) -> Config {
    let number = |name: &str| {
        *matches
            .get_one::<usize>(name)
            .expect("the argument has a default")
    };
    Config {
        listen: matches
            .get_many("listen")
            .expect("the argument has a default")
            .cloned()
            .collect(),
        threads: number("threads"),
        lease: Duration::from_millis(number("lease-ms") as u64),
        spin: Duration::from_micros(number("spin-us") as u64),
        at_least_once: matches.get_flag("at-least-once"),
        min_replicas: number("min-replicas") as u8,
        limits: Limits {
            frame_bytes_max: number("frame-bytes-max"),
            connections_max: number("connections-max"),
            objects_max: number("objects-max"),
            parked_calls_max: number("parked-calls-max"),
            queued_calls_max: number("queued-calls-max"),
            unacknowledged_calls_max: number("unacknowledged-calls-max"),
            unsent_bytes_max: number("unsent-bytes-max"),
            long_methods_max: number("long-methods-max"),
            peer_frame_bytes_max: number("peer-frame-bytes-max"),
            waiting_requests_max: number("waiting-requests-max"),
        },
    }
}

/// How long a server may take to leave its cluster.
const LEAVE_PATIENCE: Duration = Duration::from_secs(30);

/// Runs the command.
pub fn run(matches: &ArgMatches) -> Result<(), String> {
    crucial_runtime::roles::show_tracing(tracing::Level::WARN);
    // Before the server is ready, so that no signal is missed.
    let mut signals = signals::ending().map_err(|error| error.to_string())?;
    if matches.get_flag(WITH_PARENT) {
        let signal = Some(rustix::process::Signal::KILL);
        let _ = rustix::process::set_parent_process_death_signal(signal);
    }
    crucial_local::files::raise_limit();
    let config = config(matches);
    #[cfg_attr(not(any(feature = "modules", feature = "cluster")), expect(unused_mut))]
    let mut parts = Parts::default();
    #[cfg(feature = "modules")]
    {
        parts.types = std::sync::Arc::new(modules::source(matches));
    }
    #[cfg(feature = "cluster")]
    let _directory = {
        let (directory, voter) = cluster::voter(matches)?;
        parts.control = voter.map(|voter| std::sync::Arc::new(voter) as _);
        directory
    };
    let server = Server::start_with(config, parts).map_err(|error| error.to_string())?;
    let ready = |endpoint| format!("crucial server ready at {endpoint}");
    // A server whose output is closed serves all the same.
    let _ = print::lines(server.endpoints().iter().map(ready));
    let end = signals.handle();
    server.on_failure(move || end.close());
    // The next signal, or none when the server has failed.
    let outcome = match signals.forever().next() {
        None => Err(server.failure().unwrap_or_default()),
        Some(_) => leave(&server, signals),
    };
    server.stop();
    outcome
}

/// Moves the objects of this server to the other servers. One more signal ends this process at once.
fn leave(server: &Server, mut signals: Signals) -> Result<(), String> {
    let end = signals.handle();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // The handle is closed as well when the server fails, or has left.
            if signals.forever().next().is_some() {
                print::error(
                    "ended by a second signal: objects of this server may not have been moved to other servers",
                );
                std::process::exit(1);
            }
        });
        let has_left = server.leave(LEAVE_PATIENCE);
        end.close();
        match has_left {
            true => Ok(()),
            false => Err(format!(
                "some objects of this server were not moved to other servers within {LEAVE_PATIENCE:?}"
            )),
        }
    })
}
