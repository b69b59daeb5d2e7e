//! Programs that tests start as processes of their own, and the servers and proxies between them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use crucial::sync::{AtomicI64, Barrier};
use crucial::{Error, Shared};
use libtest_mimic::Failed;

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
    /// Starts a program, against a server or with its own.
    pub fn start(name: &str, server: Option<&str>) -> Result<Program, Failed> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env(ROLE, name);
        if let Some(server) = server {
            command.env("CRUCIAL_CLUSTER", server);
        }
        Program::start_command(command)
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

/// A server process on a free port.
pub struct Server {
    process: Program,
    pub address: String,
    _directory: Option<tempfile::TempDir>,
}

impl Server {
    pub fn start(options: &[&str]) -> Result<Server, Failed> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["crucial", "server", "--listen", "127.0.0.1:0"])
            .args(options);
        Server::start_command(command)
    }

    /// With `CONFORMANCE_IN_CLUSTER` it is one of a cluster (of its own), so that all rows with a server run on that.
    pub fn start_command(mut command: Command) -> Result<Server, Failed> {
        let directory = match std::env::var_os("CONFORMANCE_IN_CLUSTER") {
            Some(_) => Some(tempfile::tempdir()?),
            None => None,
        };
        if let Some(directory) = &directory {
            command.arg("--data").arg(directory.path());
        }
        let mut process = Program::start_command(command)?;
        let line = process.line()?;
        let address = line
            .strip_prefix("crucial server ready at ")
            .ok_or_else(|| format!("not a readiness line: {line:?}"))?
            .to_owned();
        Ok(Server {
            process,
            address,
            _directory: directory,
        })
    }

    /// As `kill`; the exit status.
    pub fn terminate(&mut self) -> Result<Option<i32>, Failed> {
        let process = rustix::process::Pid::from_child(&self.process.child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM)?;
        Ok(self.process.child.wait()?.code())
    }

    /// Runs a program against it; what it printed.
    pub fn run(&self, program: &str) -> Result<String, Failed> {
        Program::start(program, Some(&self.address))?.output()
    }
}

/// A TCP proxy that can cut its connections.
pub struct Proxy {
    pub address: String,
    state: Arc<(Mutex<Connections>, Condvar)>,
}

#[derive(Default)]
struct Connections {
    open: Vec<TcpStream>,
    /// Bytes came back from the server on a connection made since the last cut.
    answered: bool,
}

impl Proxy {
    pub fn start(server: &str) -> Result<Proxy, Failed> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let state: Arc<(Mutex<Connections>, Condvar)> = Arc::default();
        let (server, shared) = (server.to_owned(), state.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if let Ok(upstream) = TcpStream::connect(&server) {
                    forward(&shared, client, upstream);
                }
            }
        });
        Ok(Proxy { address, state })
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        let mut connections = self.state.0.lock().unwrap();
        connections.answered = false;
        for stream in connections.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Waits until a client has connected again, and has been answered.
    pub fn wait_for_connection(&self) {
        let connections = self.state.0.lock().unwrap();
        drop(
            self.state
                .1
                .wait_while(connections, |c| !c.answered)
                .unwrap(),
        );
    }
}

fn forward(state: &Arc<(Mutex<Connections>, Condvar)>, client: TcpStream, upstream: TcpStream) {
    let copies = (client.try_clone(), upstream.try_clone());
    let (Ok(mut from_client), Ok(mut to_upstream)) = copies else {
        return;
    };
    if let (Ok(a), Ok(b)) = (client.try_clone(), upstream.try_clone()) {
        state.0.lock().unwrap().open.extend([a, b]);
    }
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_upstream);
        let _ = to_upstream.shutdown(Shutdown::Both);
    });
    let state = state.clone();
    std::thread::spawn(move || {
        let (mut from_upstream, mut to_client) = (upstream, client);
        let mut buffer = [0; 4096];
        while let Ok(count) = from_upstream.read(&mut buffer) {
            if count == 0 || to_client.write_all(&buffer[..count]).is_err() {
                break;
            }
            state.0.lock().unwrap().answered = true;
            state.1.notify_all();
        }
        let _ = to_client.shutdown(Shutdown::Both);
    });
}
