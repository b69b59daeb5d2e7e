//! `crucial up`: a cluster on this machine.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStderr, ChildStdout, Command as Process, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;

use clap::{Arg, ArgMatches, Command};

use crucial_local::{system_reason, thread};
use crucial_runtime::roles;

use super::data::{self, DataDirectory};
use super::value::within;
use super::{print, signals};

/// The first server's port by default; the others have the next ones.
const PORT: u16 = 7171;

/// Servers that one command starts.
const SERVERS_MAX: u16 = 16;

/// The command.
pub fn command() -> Command {
    Command::new("up")
        .about("Starts a cluster on this machine, and ends it when a signal ends this command")
        .args([
            Arg::new("servers")
                .short('n')
                .long("servers")
                .value_name("N")
                .value_parser(within(1..=SERVERS_MAX))
                .default_value("3")
                .help("The number of servers"),
            Arg::new("port")
                .long("port")
                .value_name("PORT")
                .value_parser(within(1..=u16::MAX - SERVERS_MAX))
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

/// Server processes, which are killed when this value is dropped. Servers that were asked to leave instead would move
/// their objects to each other.
struct Servers(Vec<Child>);

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Fails if the server has ended already.
            let _ = child.kill();
        }
        for child in &mut self.0 {
            let _ = child.wait();
        }
    }
}

/// The options of each server that this command chooses.
const CHOSEN: [&str; 5] = ["--listen", "--join", "--data", "--advertise", "--expect"];

/// Refuses options of the servers that must differ between them.
fn check_options<'a>(options: impl Iterator<Item = &'a String>) -> Result<(), String> {
    for option in options {
        let name = option.split('=').next().unwrap_or_default();
        if CHOSEN.contains(&name) {
            return Err(format!(
                "{name} differs between the servers, so that `crucial up` chooses it: --port has the first server's \
                 port, and --data the directory of all"
            ));
        }
    }
    Ok(())
}

/// What the command waits for.
enum Event {
    /// A signal asks this process to end.
    Stop,
    /// One more server is ready.
    Ready,
    /// The server with this index has ended.
    Ended(usize),
}

/// Runs the command.
pub fn run(matches: &ArgMatches) -> Result<(), String> {
    check_options(matches.get_many::<String>("options").into_iter().flatten())?;
    let (events, next_event) = mpsc::channel();
    let mut signals = signals::ending().map_err(|error| error.to_string())?;
    let stop = events.clone();
    let listening = thread::start("crucial-signals", move || {
        signals.forever().try_for_each(|_| stop.send(Event::Stop))
    });
    listening.map_err(|error| error.to_string())?;
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
    for (index, address) in addresses.iter().enumerate() {
        let mut server = this_command()?;
        server
            .args(["server", "--end-with-parent"])
            .args(["--listen", address, "--join", &all, "--data"])
            .arg(directory.path().join(address.replace([':', '.'], "-")))
            .args(matches.get_many::<String>("options").into_iter().flatten())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = server
            .spawn()
            .map_err(|error| format!("cannot start a server: {}", system_reason(&error)))?;
        let out = child.stdout.take().expect("the output is piped");
        let err = child.stderr.take().expect("the output is piped");
        servers.0.push(child);
        let events = events.clone();
        let address = address.clone();
        let relay = thread::start("crucial-relay", move || relay(&address, err));
        let relay = relay.map_err(|error| error.to_string())?;
        let watch = thread::start("crucial-watch", move || watch(index, out, relay, &events));
        watch.map_err(|error| error.to_string())?;
    }
    let (mut ready, mut ended) = (0, 0);
    loop {
        match next_event.recv().expect("a sender lives in this function") {
            Event::Stop => return Ok(()),
            Event::Ready => {
                ready += 1;
                if ready == count {
                    // A cluster whose output is closed serves all the same.
                    let _ = print::lines([
                        format!("crucial cluster ready: {count} servers"),
                        format!("CRUCIAL_CLUSTER={all}"),
                    ]);
                }
            }
            Event::Ended(index) => {
                let address = &addresses[index];
                if ready < count {
                    return Err(format!(
                        "the server at {address} did not start; its own message is above"
                    ));
                }
                let status = servers.0[index].wait();
                let status =
                    status.map_or_else(|error| error.to_string(), |status| status.to_string());
                print::error(format!(
                    "the server at {address} has ended: {status}; the others continue"
                ));
                ended += 1;
                if ended == count {
                    return Err("all servers have ended".to_owned());
                }
            }
        }
    }
}

/// Prints what a server has to say, behind its address, until the server ends.
fn relay(address: &str, err: ChildStderr) {
    for line in BufReader::new(err).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        // One write for each line, so that lines stay whole. If standard error is closed, nobody reads it.
        let _ = std::io::stderr().write_all(format!("[{address}] {line}\n").as_bytes());
    }
}

/// Reads a server's output, so that the server does not block, until the server ends and all that it said is printed.
fn watch(index: usize, out: ChildStdout, relay: JoinHandle<()>, events: &mpsc::Sender<Event>) {
    let mut lines = BufReader::new(out).lines();
    // The receiver is gone when the command ends.
    if let Some(Ok(line)) = lines.next()
        && line.contains("ready")
    {
        let _ = events.send(Event::Ready);
    }
    lines.for_each(drop);
    // A panic there has been printed.
    let _ = relay.join();
    let _ = events.send(Event::Ended(index));
}

/// This executable as the `crucial` command.
fn this_command() -> Result<Process, String> {
    let executable = std::env::current_exe()
        .map_err(|error| format!("cannot find this executable: {}", system_reason(&error)))?;
    let mut command = Process::new(executable);
    // A program with another purpose runs a command if its first argument is the command's name.
    if roles::is_command_of_program() {
        command.arg(roles::COMMAND);
    }
    Ok(command)
}
