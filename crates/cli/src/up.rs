//! `crucial up`: a cluster on this machine.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use clap::{Arg, ArgMatches, Command, value_parser};

use crucial_runtime::roles;

use super::data::{self, DataDirectory};
use super::print;

/// The first server's port by default; the others have the next ones.
const PORT: u16 = 7171;

/// Servers that one command starts.
const SERVERS_MAX: u16 = 16;

/// How often the servers are checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// How long servers may take to end.
const END_PATIENCE: Duration = Duration::from_secs(40);

/// The command.
pub fn command() -> Command {
    Command::new("up")
        .about("Starts a cluster on this machine, and ends it on SIGTERM or SIGINT")
        .args([
            Arg::new("servers")
                .short('n')
                .long("servers")
                .value_name("N")
                .value_parser(value_parser!(u16).range(1..=i64::from(SERVERS_MAX)))
                .default_value("3")
                .help("The number of servers"),
            Arg::new("port")
                .long("port")
                .value_name("PORT")
                .value_parser(value_parser!(u16).range(1..=i64::from(u16::MAX - SERVERS_MAX)))
                .default_value(PORT.to_string())
                .help("The first server's port; the others have the next ones"),
            data::argument()
                .help("The directory for the identities of the servers, each in a subdirectory; by default a temporary one"),
        ])
        .arg(
            Arg::new("options")
                .value_name("OPTIONS")
                .num_args(0..)
                .last(true)
                .allow_hyphen_values(true)
                .help("Further options of each `crucial server`"),
        )
}

/// Server processes, which are killed when this value is dropped.
struct Servers(Vec<Child>);

impl Servers {
    /// Kills all servers, and waits until they have ended.
    fn end(mut self) {
        // A server that is asked to leave moves its objects to the others, which end as well. So the servers are killed.
        for child in &mut self.0 {
            // Fails if the server has ended already.
            let _ = child.kill();
        }
        let started = Instant::now();
        for child in &mut self.0 {
            while started.elapsed() < END_PATIENCE && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(CHECK_INTERVAL);
            }
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs the command.
pub fn run(matches: &ArgMatches) -> Result<(), String> {
    use signal_hook::consts::{SIGINT, SIGTERM};

    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])
        .map_err(|error| format!("cannot listen for signals: {error}"))?;
    let count = *matches
        .get_one::<u16>("servers")
        .expect("the argument has a default");
    let port = *matches
        .get_one::<u16>("port")
        .expect("the argument has a default");
    let directory = DataDirectory::of(matches)?;
    let addresses: Vec<_> = (port..port + count)
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let all = addresses.join(",");
    let mut servers = Servers(Vec::new());
    for address in &addresses {
        let mut server = this_command()?;
        server
            .args(["server", "--listen", address, "--join", &all, "--data"])
            .arg(directory.path().join(address.replace([':', '.'], "-")))
            .args(matches.get_many::<String>("options").into_iter().flatten())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let child = server
            .spawn()
            .map_err(|error| format!("cannot start a server: {error}"))?;
        servers.0.push(child);
    }
    for (child, address) in servers.0.iter_mut().zip(&addresses) {
        await_ready(child, address)?;
    }
    // A cluster whose output is closed serves all the same.
    let _ = print::lines([
        format!("crucial cluster ready: {count} servers"),
        format!("CRUCIAL_CLUSTER={all}"),
    ]);
    loop {
        if signals.pending().next().is_some() {
            servers.end();
            return Ok(());
        }
        for (child, address) in servers.0.iter_mut().zip(&addresses) {
            if let Ok(Some(status)) = child.try_wait() {
                print::error(format!(
                    "the server at {address} has ended: {status}; the others continue"
                ));
            }
        }
        let gone = |child: &mut Child| matches!(child.try_wait(), Ok(Some(_)));
        if servers.0.iter_mut().all(gone) {
            return Err("all servers have ended".to_owned());
        }
        servers.0.retain_mut(|child| !gone(child));
        std::thread::sleep(CHECK_INTERVAL);
    }
}

/// This executable as the `crucial` command.
fn this_command() -> Result<Process, String> {
    let executable =
        std::env::current_exe().map_err(|error| format!("cannot find this executable: {error}"))?;
    let mut command = Process::new(executable);
    // A program with another purpose runs a command if its first argument is the command's name.
    if roles::is_command_of_program() {
        command.arg(roles::COMMAND);
    }
    Ok(command)
}

fn await_ready(child: &mut Child, address: &str) -> Result<(), String> {
    let Some(out) = child.stdout.take() else {
        return Err("the server has no output".to_owned());
    };
    let mut lines = BufReader::new(out).lines();
    match lines.next() {
        Some(Ok(line)) if line.contains("ready") => {
            // Later output must be read, so that the server does not block.
            std::thread::spawn(move || lines.for_each(drop));
            Ok(())
        }
        _ => Err(format!(
            "the server at {address} did not start; its own message is above"
        )),
    }
}
