//! A Crucial server, which runs in another process of this executable.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crucial_proto::Endpoint;

use crate::Error;

/// A server process with one loop. The process is killed when the value is dropped.
pub struct Server {
    process: Child,
    /// The server's address.
    pub endpoint: Endpoint,
}

impl Server {
    /// Starts a server, bound to `core` if that is given, and waits until the server is ready.
    pub fn start(spin_us: u32, core: Option<usize>) -> Result<Server, Error> {
        Server::start_with(spin_us, core, &[])
    }

    /// Starts a server with more options.
    pub fn start_with(
        spin_us: u32,
        core: Option<usize>,
        options: &[&str],
    ) -> Result<Server, Error> {
        let mut process = on_core(std::env::current_exe()?.into(), core)
            .args(["crucial", "server", "--listen", "127.0.0.1:0"])
            .args(["--threads", "1", "--spin-us", &spin_us.to_string()])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().ok_or("no stdout")?).read_line(&mut line)?;
        let address = line.trim().rsplit(' ').next().unwrap_or_default();
        Ok(Server {
            endpoint: address.parse()?,
            process,
        })
    }

    /// The server's resident memory, in bytes.
    pub fn resident_bytes(&self) -> Result<u64, Error> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(kilobytes.ok_or("no VmRSS")?.parse::<u64>()? << 10)
    }

    /// The server's process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A command that is bound to one core. (`taskset` executes the program in its own process, so that the process id is
/// the program's.)
pub fn on_core(program: OsString, core: Option<usize>) -> Command {
    let Some(core) = core else {
        return Command::new(program);
    };
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}
