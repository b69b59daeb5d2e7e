//! One server as a process, and commands that use it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crucial_client::{Client, Config};
use crucial_proto::Endpoints;

use crate::error::{Error, Result, io};
use crate::executable::Executable;
use crate::wait::wait_until;

/// How long a server may take to be ready, on a busy machine.
pub(crate) const READY_PATIENCE: Duration = Duration::from_secs(60);

/// How long a cluster may take to move its objects, on a busy machine.
const WHOLE_PATIENCE: Duration = Duration::from_secs(60);

/// A server process, which is killed when this value is dropped.
#[derive(Debug)]
pub struct Server {
    executable: Executable,
    process: Child,
    /// The server's address.
    pub address: String,
}

impl Server {
    /// Starts a server on a free port of 127.0.0.1.
    pub fn start(executable: &Executable, options: &[&str]) -> Result<Server> {
        let mut command = executable.command(&["server", "--listen", "127.0.0.1:0"]);
        command.args(options);
        let mut process = spawn(command)?;
        let address = await_ready(&mut process)?;
        Ok(Server {
            executable: executable.clone(),
            process,
            address,
        })
    }

    /// Waits until all objects of the server's cluster have all of their replicas.
    pub fn wait_whole(&self) -> Result<()> {
        wait_until("the cluster is whole", WHOLE_PATIENCE, || {
            let status = self.crucial(&["cluster", "status"]);
            Ok(status.is_ok_and(|status| status.contains("whole")))
        })
    }

    /// A new client of the server.
    pub fn client(&self) -> Result<Arc<Client>> {
        let endpoints: Endpoints = self.address.parse()?;
        let config = Config {
            seeds: endpoints.others().to_vec(),
            // Without effect where there is one server.
            replicas: 2,
            ..Config::new(endpoints.first().clone())
        };
        Ok(Client::connect(config)?)
    }

    /// Runs a command against the server. Gives its output, or the error that it prints.
    pub fn crucial(&self, words: &[&str]) -> Result<String, String> {
        run(&self.executable, &self.address, words)
    }
}

/// Runs a command against the servers of an address. Gives its output, or the error that it prints.
pub(crate) fn run(
    executable: &Executable,
    address: &str,
    words: &[&str],
) -> Result<String, String> {
    let output = executable
        .command(words)
        .env("CRUCIAL_CLUSTER", address)
        .output()
        .map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

/// Starts a server process, whose output is read by [`await_ready`].
pub(crate) fn spawn(mut command: Command) -> Result<Child> {
    command
        .env_remove("CRUCIAL_CLUSTER")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(io("start a server"))
}

/// Waits until a server says that it is ready, and gives its address.
pub(crate) fn await_ready(process: &mut Child) -> Result<String> {
    let line = watch_ready(process)?.recv_timeout(READY_PATIENCE);
    address_of(&line.map_err(|_| late())?)
}

/// The first line of a server's output, as soon as it is there; empty if the server ends without one.
pub(crate) fn watch_ready(process: &mut Child) -> Result<mpsc::Receiver<String>> {
    let out = process.stdout.take();
    let mut out = BufReader::new(out.ok_or(Error::Wrong("the server has no output".to_owned()))?);
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut first = String::new();
        // A server that ends without a line gives an empty one.
        let _ = out.read_line(&mut first);
        let _ = sender.send(first);
        // Later output must be read, so that the server does not block.
        let _ = out.read_to_end(&mut Vec::new());
    });
    Ok(receiver)
}

/// The address in a server's first line.
pub(crate) fn address_of(line: &str) -> Result<String> {
    let address = line.strip_prefix("crucial server ready at ");
    let address =
        address.ok_or_else(|| Error::Wrong(format!("a server is not ready: {line:?}")))?;
    Ok(address.trim_end().to_owned())
}

pub(crate) fn late() -> Error {
    Error::Late(READY_PATIENCE, "a server is ready".to_owned())
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
