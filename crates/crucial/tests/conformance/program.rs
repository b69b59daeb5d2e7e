//! Programs that rows start as processes of their own.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crucial::sync::{AtomicI64, Barrier};
use crucial::{Error, Shared};
use libtest_mimic::Failed;

use crate::server::{self, Server};

/// Names the program that this process is.
pub const ROLE: &str = "CONFORMANCE_PROGRAM";

/// Runs a program.
pub fn run(name: &str) {
    let outcome = match name {
        "make" => make(),
        "find" => find(),
        "delete" => delete(),
        "hold" => hold(true),
        "hold-and-go" => hold(false),
        "count-to-1000" => count(),
        "wait-at-barrier" => wait_at_barrier(),
        "watch-barrier" => watch_barrier(),
        other => crate::output::program(other)
            .or_else(|| crate::threads::program(other))
            .or_else(|| crate::library::program(other))
            .or_else(|| crate::recovery::program(other))
            .or_else(|| crate::totals::program(other))
            .or_else(|| crate::shell::program(other))
            .or_else(|| crate::failures::program(other))
            .or_else(|| crate::processes::program(other))
            .or_else(|| crate::drop_in::program(other))
            .unwrap_or_else(|| panic!("no program {other}")),
    };
    if let Err(error) = outcome {
        println!("failed: {error}");
    }
}

fn make() -> crucial::Result<()> {
    Shared::builder("a06")
        .persistent()
        .create(AtomicI64::new(42))?;
    Shared::named("a06-ephemeral", AtomicI64::new(43))?;
    println!("made");
    Ok(())
}

fn find() -> crucial::Result<()> {
    let value = |key: &str| match Shared::<AtomicI64>::open(key) {
        Ok(object) => Ok(object.load()?.to_string()),
        Err(Error::NotFound { .. }) => Ok("none".to_owned()),
        Err(error) => Err(error),
    };
    println!(
        "persistent: {}, ephemeral: {}",
        value("a06")?,
        value("a06-ephemeral")?
    );
    Ok(())
}

fn delete() -> crucial::Result<()> {
    let object = Shared::<AtomicI64>::open("a06")?;
    println!("deleted: {}, again: {}", object.delete()?, object.delete()?);
    Ok(())
}

fn hold(stay: bool) -> crucial::Result<()> {
    Shared::new(AtomicI64::new(0))?;
    println!("holding");
    if stay {
        read_command();
    }
    Ok(())
}

fn count() -> crucial::Result<()> {
    let counter = Shared::named("a09", AtomicI64::new(0))?;
    for _ in 0..1000 {
        counter.fetch_add(1)?;
    }
    println!("{}", counter.load()?);
    Ok(())
}

fn barrier() -> crucial::Result<Shared<Barrier>> {
    Shared::builder("barrier")
        .persistent()
        .create(Barrier::new(3))
}

fn wait_at_barrier() -> crucial::Result<()> {
    let barrier = barrier()?;
    let waiting = barrier.deferred().wait();
    barrier.parties()?;
    println!("waiting");
    waiting.wait()?;
    println!("through");
    Ok(())
}

fn watch_barrier() -> crucial::Result<()> {
    let barrier = barrier()?;
    let look = || {
        println!("{} of {} wait", barrier.waiting()?, barrier.parties()?);
        crucial::Result::<()>::Ok(())
    };
    look()?;
    loop {
        match read_command().as_str() {
            "look" => look()?,
            "join twice" => {
                let other = barrier.deferred().wait();
                barrier.wait()?;
                other.wait()?;
                println!("through");
            }
            "until nobody waits" => {
                while barrier.waiting()? > 0 {}
                println!("nobody waits");
            }
            _ => return Ok(()),
        }
    }
}

/// A line from the test; empty when it has gone.
pub fn read_command() -> String {
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
    line.trim_end().to_owned()
}

/// A running program. It is killed when this is dropped.
pub struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Program {
    /// Starts a program that uses a server of the row, or the one that a program of its own uses.
    pub fn start(name: &str, server: Option<&Server>) -> Result<Program, Failed> {
        Program::start_command(match server {
            Some(server) => server.command(name)?,
            None => Program::command(name)?,
        })
    }

    /// This executable as a program. Without more it uses a server that is embedded in it; on a cluster the one that all
    /// rows share.
    pub fn command(name: &str) -> Result<Command, Failed> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env(ROLE, name);
        if server::is_cluster() {
            command.envs(Server::start(&[])?.environment());
        }
        Ok(command)
    }

    pub fn start_command(mut command: Command) -> Result<Program, Failed> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or("no stdout")?;
        Ok(Program {
            child,
            stdin,
            stdout: BufReader::new(stdout),
        })
    }

    /// Its next line.
    pub fn line(&mut self) -> Result<String, Failed> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Gives it a line.
    pub fn tell(&mut self, line: &str) -> Result<(), Failed> {
        let stdin = self.stdin.as_mut().ok_or("no stdin")?;
        writeln!(stdin, "{line}")?;
        Ok(())
    }

    /// As `kill -9`.
    pub fn kill(&mut self) -> Result<(), Failed> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// As `kill -SIGNAL`.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<(), Failed> {
        let process = rustix::process::Pid::from_child(&self.child);
        Ok(rustix::process::kill_process(process, signal)?)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it ends; the exit status.
    pub fn wait(&mut self) -> Result<Option<i32>, Failed> {
        Ok(self.child.wait()?.code())
    }

    /// All that it prints until it ends.
    pub fn output(mut self) -> Result<String, Failed> {
        self.stdin = None;
        let mut output = String::new();
        self.stdout.read_to_string(&mut output)?;
        self.child.wait()?;
        Ok(output)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
