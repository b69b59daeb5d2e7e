//! Servers as processes.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crucial::Shared;
use crucial_client::{Client, Config};
use crucial_core::Endpoints;
use crucial_core::frame::ClusterInfo;
use crucial_object::caller;
use rustix::process::{Pid, Signal, kill_process};

use crate::{Error, Net, Result, io, wait_until};

/// How long a server may take to be ready, on a busy machine.
const READY_PATIENCE: Duration = Duration::from_secs(60);

/// How long a cluster may take to be whole again.
pub const WHOLE_PATIENCE: Duration = Duration::from_secs(60);

/// What servers are told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The lease between servers, in milliseconds.
    pub server_lease_ms: u64,
    /// The lease of clients, in milliseconds.
    pub lease_ms: u64,
    /// How long their threads spin, in microseconds.
    pub spin_us: u64,
    /// More options of `crucial server`.
    pub more: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            server_lease_ms: 1000,
            lease_ms: 10_000,
            spin_us: 0,
            more: Vec::new(),
        }
    }
}

/// A place for a server, which may be there or not.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: String,
    host: u8,
    directory: PathBuf,
    process: Option<Child>,
    /// It was stopped by a signal.
    pub is_paused: bool,
}

/// Servers on this machine.
#[derive(Debug)]
pub struct Cluster {
    servers: Vec<Server>,
    net: Net,
    options: Options,
    executable: PathBuf,
    directory: tempfile::TempDir,
}

impl Cluster {
    /// Starts a cluster of `count` servers on loopback.
    pub fn start(count: u8) -> Result<Cluster> {
        Cluster::start_with(count, Net::Loopback, Options::default())
    }

    /// Starts a cluster.
    pub fn start_with(count: u8, net: Net, options: Options) -> Result<Cluster> {
        let mut cluster = Cluster {
            servers: Vec::new(),
            net,
            options,
            executable: std::env::current_exe().map_err(io("this executable"))?,
            directory: tempfile::tempdir().map_err(io("a directory"))?,
        };
        for _ in 0..count {
            cluster.place()?;
        }
        // All at once, as by a seed list.
        for index in 0..cluster.servers.len() {
            cluster.launch(index)?;
        }
        for server in &mut cluster.servers {
            server.await_ready()?;
        }
        cluster.wait_whole()?;
        Ok(cluster)
    }

    /// A place for one more server, without one.
    fn place(&mut self) -> Result<usize> {
        let host = self.servers.len() as u8;
        self.servers.push(Server {
            address: self.net.listen(host)?,
            host,
            directory: self.directory.path().join(host.to_string()),
            process: None,
            is_paused: false,
        });
        Ok(self.servers.len() - 1)
    }

    fn launch(&mut self, index: usize) -> Result<()> {
        let all: Vec<_> = self.servers.iter().map(|s| s.address.clone()).collect();
        let server = &mut self.servers[index];
        let mut command = self.net.command(server.host, &self.executable);
        command
            .args(["crucial", "server", "--listen", &server.address])
            .args(["--join", &all.join(","), "--data"])
            .arg(&server.directory)
            .args([
                "--server-lease-ms",
                &self.options.server_lease_ms.to_string(),
            ])
            .args(["--lease-ms", &self.options.lease_ms.to_string()])
            .args(["--threads", "1"])
            .args(["--spin-us", &self.options.spin_us.to_string()])
            .args(&self.options.more)
            .env_remove("CRUCIAL_CLUSTER")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        server.is_paused = false;
        server.process = Some(spawn(command)?);
        Ok(())
    }

    /// How many places there are.
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// A place.
    pub fn server(&self, index: usize) -> &Server {
        &self.servers[index]
    }

    /// Where they are.
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// The places where a server runs, paused or not.
    pub fn running(&self) -> Vec<usize> {
        let places = self.servers.iter().enumerate();
        places
            .filter(|(_, server)| server.process.is_some())
            .map(|(index, _)| index)
            .collect()
    }

    /// The places where none runs.
    pub fn stopped(&self) -> Vec<usize> {
        let places = self.servers.iter().enumerate();
        places
            .filter(|(_, server)| server.process.is_none())
            .map(|(index, _)| index)
            .collect()
    }

    /// One more server joins; its place.
    pub fn add(&mut self) -> Result<usize> {
        let index = self.place()?;
        self.restart(index)?;
        Ok(index)
    }

    /// Starts the server of a place (again).
    pub fn restart(&mut self, index: usize) -> Result<()> {
        self.launch(index)?;
        self.servers[index].await_ready()
    }

    /// As `kill -9`.
    pub fn kill(&mut self, index: usize) -> Result<()> {
        let server = &mut self.servers[index];
        if let Some(mut process) = server.process.take() {
            signal(&process, Signal::KILL)?;
            process.wait().map_err(io("wait"))?;
        }
        server.is_paused = false;
        Ok(())
    }

    /// As `kill -STOP`.
    pub fn pause(&mut self, index: usize) -> Result<()> {
        self.servers[index].is_paused = true;
        self.signal(index, Signal::STOP)
    }

    /// As `kill -CONT`.
    pub fn go_on(&mut self, index: usize) -> Result<()> {
        self.servers[index].is_paused = false;
        self.signal(index, Signal::CONT)
    }

    /// As `kill`: the server leaves. Returns at once.
    pub fn tell_to_leave(&self, index: usize) -> Result<()> {
        self.signal(index, Signal::TERM)
    }

    /// The server leaves, and has left; its exit status.
    pub fn leave(&mut self, index: usize) -> Result<Option<i32>> {
        self.tell_to_leave(index)?;
        let Some(mut process) = self.servers[index].process.take() else {
            return Ok(None);
        };
        Ok(process.wait().map_err(io("wait"))?.code())
    }

    fn signal(&self, index: usize, which: Signal) -> Result<()> {
        match &self.servers[index].process {
            Some(process) => signal(process, which),
            None => Ok(()),
        }
    }

    /// Where clients come in.
    pub fn entry(&self) -> Entry {
        Entry(
            self.servers
                .iter()
                .map(|server| server.address.clone())
                .collect(),
        )
    }

    /// The addresses of all places, as in `CRUCIAL_CLUSTER`, from this one on.
    pub fn addresses(&self, first: usize) -> String {
        self.entry().addresses(first)
    }

    /// A new client, which comes in by the server of a place, or by any other.
    pub fn client(&self, first: usize) -> Result<Arc<Client>> {
        self.entry().client(first)
    }

    /// A new client, with settings of its own.
    pub fn client_with(&self, first: usize, set: impl FnOnce(&mut Config)) -> Result<Arc<Client>> {
        self.entry().client_with(first, set)
    }

    /// Does something with a client of its own.
    pub fn with<R>(&self, act: impl FnOnce() -> crucial::Result<R>) -> Result<R> {
        let client = self.client(0)?;
        let done = caller::with(client.clone(), act);
        client.goodbye()?;
        Ok(done?)
    }

    /// What the server of a place knows of the cluster.
    pub fn info(&self, index: usize) -> Result<ClusterInfo> {
        let client = self.client(index)?;
        let info = client.cluster_info();
        client.goodbye()?;
        Ok(info?)
    }

    /// Waits until just the servers that run are members, and each partition has all the servers that it should have.
    pub fn wait_whole(&self) -> Result<()> {
        let client = self.client(self.running().first().copied().unwrap_or(0))?;
        let servers = self.running().len();
        let mut last = String::new();
        let whole = wait_until("the cluster is whole", WHOLE_PATIENCE, || {
            // Of all, as one that was cut off takes the past for the present.
            let infos = client.cluster_infos()?;
            let is_whole = |info: &ClusterInfo| {
                info.has_lease
                    && info.members.len() == servers
                    && info.view == infos[0].view
                    && info.partitions.iter().all(|partition| partition.is_settled)
            };
            last = format!("{} of {servers} servers answer", infos.len());
            Ok(infos.len() == servers && infos.iter().all(is_whole))
        });
        client.goodbye()?;
        whole.map_err(|error| Error::Wrong(format!("{error} ({last})")))
    }

    /// The place of the server that is the primary of an object.
    pub fn primary<T>(&self, object: &Shared<T>) -> Result<usize>
    where
        T: crucial_object::SharedType,
    {
        let client = self.client(self.running().first().copied().unwrap_or(0))?;
        let routes = client.routes();
        client.goodbye()?;
        let primary = routes.primary(routes.partition(&object.id()));
        let address = primary.map(|server| server.address.clone());
        let places = self.servers.iter();
        let place =
            address.and_then(|address| places.clone().position(|server| server.address == address));
        place.ok_or(Error::Wrong("the object has no primary".to_owned()))
    }
}

/// Where clients come in, also while servers come and go.
#[derive(Clone, Debug)]
pub struct Entry(Vec<String>);

impl Entry {
    /// The addresses of all places, as in `CRUCIAL_CLUSTER`, from this one on.
    pub fn addresses(&self, first: usize) -> String {
        let count = self.0.len();
        let places = (0..count).map(|index| (first + index) % count);
        let addresses = places.map(|index| self.0[index].as_str());
        addresses.collect::<Vec<_>>().join(",")
    }

    /// A new client, which comes in by the server of a place, or by any other.
    pub fn client(&self, first: usize) -> Result<Arc<Client>> {
        self.client_with(first, |_| ())
    }

    /// A new client, with settings of its own.
    pub fn client_with(&self, first: usize, set: impl FnOnce(&mut Config)) -> Result<Arc<Client>> {
        let endpoints: Endpoints = self.addresses(first).parse()?;
        let mut config = Config::new(endpoints.first().clone());
        config.seeds = endpoints.others().to_vec();
        config.patience = Duration::from_secs(60);
        config.spin = Duration::ZERO;
        set(&mut config);
        Ok(Client::connect(config)?)
    }
}

fn spawn(mut command: Command) -> Result<Child> {
    command.spawn().map_err(io("start a server"))
}

fn signal(process: &Child, signal: Signal) -> Result<()> {
    let process = Pid::from_child(process);
    kill_process(process, signal).map_err(|error| Error::Io {
        what: format!("signal {signal:?}"),
        source: error.into(),
    })
}

impl Server {
    fn await_ready(&mut self) -> Result<()> {
        let out = self
            .process
            .as_mut()
            .and_then(|process| process.stdout.take());
        let mut out = BufReader::new(out.ok_or(Error::Wrong("no server".to_owned()))?);
        let (line, came) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut first = String::new();
            // An end without a line is an empty one.
            let _ = out.read_line(&mut first);
            let _ = line.send(first);
            // What it prints later must go somewhere.
            let _ = out.read_to_end(&mut Vec::new());
        });
        match came.recv_timeout(READY_PATIENCE) {
            Ok(line) if line.starts_with("crucial server ready at ") => Ok(()),
            Ok(line) => Err(Error::Wrong(format!(
                "the server at {} is not ready: {line:?}",
                self.address
            ))),
            Err(_) => Err(Error::Late(
                READY_PATIENCE,
                format!("the server at {} is ready", self.address),
            )),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
