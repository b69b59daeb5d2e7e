//! A cluster of server processes.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use crucial_client::{Client, Config};
use crucial_object::{ObjectId, Shared, SharedType, caller};
use crucial_proto::Endpoints;
use crucial_proto::frame::ClusterInfo;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::error::{Error, Result, io};
use crate::executable::Executable;
use crate::net::Net;
use crate::server::{READY_PATIENCE, address_of, late, run, spawn, watch_ready};
use crate::wait::wait_until;

/// How long a cluster may take to be whole again.
pub const WHOLE_PATIENCE: Duration = Duration::from_secs(60);

/// The settings of servers.
#[derive(Clone, Debug)]
pub struct Options {
    /// The lease between servers, in milliseconds.
    pub server_lease_ms: u64,
    /// The lease of clients, in milliseconds.
    pub lease_ms: u64,
    /// How long their threads spin, in microseconds.
    pub spin_us: u64,
    /// Further options of `crucial server`.
    pub more: Vec<String>,
    /// The program that the servers run; `None`: this executable.
    pub executable: Option<Executable>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            server_lease_ms: 1000,
            lease_ms: 10_000,
            spin_us: 0,
            more: Vec::new(),
            executable: None,
        }
    }
}

/// A place for a server process, which may be running or not.
#[derive(Debug)]
pub struct Place {
    /// The address of the place's server.
    pub address: String,
    host: u8,
    directory: PathBuf,
    process: Option<Child>,
    /// Gives the first line of a server that was started, and of which nobody knows yet that it is ready.
    first_line: Option<Receiver<String>>,
    /// Whether the process is stopped by a signal.
    pub is_paused: bool,
}

/// A cluster of server processes on this machine.
#[derive(Debug)]
pub struct Cluster {
    places: Vec<Place>,
    net: Net,
    options: Options,
    executable: Executable,
    directory: tempfile::TempDir,
}

impl Cluster {
    /// Starts a cluster of `count` servers on loopback.
    pub fn start(count: u8) -> Result<Cluster> {
        Cluster::start_with(count, Net::Loopback, Options::default())
    }

    /// Starts a cluster.
    pub fn start_with(count: u8, net: Net, options: Options) -> Result<Cluster> {
        let executable = match &options.executable {
            Some(executable) => executable.clone(),
            None => Executable::this()?,
        };
        let mut cluster = Cluster {
            places: Vec::new(),
            net,
            options,
            executable,
            directory: tempfile::tempdir().map_err(io("a directory"))?,
        };
        for _ in 0..count {
            cluster.add_place()?;
        }
        // All at once: each has the addresses of all.
        for index in 0..cluster.places.len() {
            cluster.launch(index)?;
        }
        for place in &mut cluster.places {
            place.await_ready()?;
        }
        cluster.wait_whole()?;
        Ok(cluster)
    }

    /// Adds a place, whose server is not started: [`begin`](Cluster::begin) or [`restart`](Cluster::restart) do.
    pub fn add_place(&mut self) -> Result<usize> {
        let host = self.places.len() as u8;
        self.places.push(Place {
            address: self.net.listen(host)?,
            host,
            directory: self.directory.path().join(host.to_string()),
            process: None,
            first_line: None,
            is_paused: false,
        });
        Ok(self.places.len() - 1)
    }

    fn launch(&mut self, index: usize) -> Result<()> {
        let all: Vec<_> = self.places.iter().map(|s| s.address.clone()).collect();
        let server = &mut self.places[index];
        let mut command = self.net.command(server.host, self.executable.path());
        command
            .args(self.executable.prefix())
            .args(["server", "--listen", &server.address])
            .args(["--join", &all.join(","), "--data"])
            .arg(&server.directory)
            .args([
                "--server-lease-ms",
                &self.options.server_lease_ms.to_string(),
            ])
            .args(["--lease-ms", &self.options.lease_ms.to_string()])
            .args(["--threads", "1"])
            .args(["--spin-us", &self.options.spin_us.to_string()])
            .args(&self.options.more);
        server.is_paused = false;
        let mut process = spawn(command)?;
        server.first_line = Some(watch_ready(&mut process)?);
        server.process = Some(process);
        Ok(())
    }

    /// The number of places.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether the cluster has no places.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// A place.
    pub fn place(&self, index: usize) -> &Place {
        &self.places[index]
    }

    /// The hosts of the places.
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// The places whose server runs, paused or not.
    pub fn running(&self) -> Vec<usize> {
        self.places_where(|server| server.process.is_some())
    }

    /// The places whose server does not run.
    pub fn stopped(&self) -> Vec<usize> {
        self.places_where(|server| server.process.is_none())
    }

    fn places_where(&self, holds: impl Fn(&Place) -> bool) -> Vec<usize> {
        let places = self.places.iter().enumerate();
        places
            .filter(|(_, place)| holds(place))
            .map(|(index, _)| index)
            .collect()
    }

    /// Adds a server, and returns its place.
    pub fn add(&mut self) -> Result<usize> {
        let index = self.add_place()?;
        self.restart(index)?;
        Ok(index)
    }

    /// Starts the server of a place, whose process has ended or was never started.
    pub fn restart(&mut self, index: usize) -> Result<()> {
        self.launch(index)?;
        self.places[index].await_ready()
    }

    /// Starts all servers that do not run, and waits until each is ready.
    pub fn restart_all(&mut self) -> Result<()> {
        let stopped = self.stopped();
        for index in &stopped {
            self.launch(*index)?;
        }
        for index in stopped {
            self.places[index].await_ready()?;
        }
        Ok(())
    }

    /// Removes all that a server that does not run has on its disk.
    pub fn wipe(&mut self, index: usize) -> Result<()> {
        std::fs::remove_dir_all(&self.places[index].directory).map_err(io("remove a directory"))
    }

    /// The directory of a server's data.
    pub fn data(&self, index: usize) -> &Path {
        &self.places[index].directory
    }

    /// Starts a server, and does not wait until it is ready.
    pub fn begin(&mut self, index: usize) -> Result<()> {
        self.launch(index)
    }

    /// Waits until a server is ready that was begun.
    pub fn await_ready(&mut self, index: usize) -> Result<()> {
        self.places[index].await_ready()
    }

    /// Whether a server that was begun is ready by now. Does not block.
    ///
    /// # Errors
    ///
    /// If its process has ended without being ready.
    pub fn is_ready(&mut self, index: usize) -> Result<bool> {
        self.places[index].is_ready(Duration::ZERO)
    }

    /// Whether the process of a server that was asked to leave has ended, and then its exit status; `None` there if a
    /// signal has ended it. Does not block.
    pub fn exit(&mut self, index: usize) -> Result<Option<Option<i32>>> {
        let server = &mut self.places[index];
        let Some(process) = &mut server.process else {
            return Ok(Some(None));
        };
        let ended = process.try_wait().map_err(io("wait"))?;
        if ended.is_some() {
            server.process = None;
        }
        Ok(ended.map(|status| status.code()))
    }

    /// The processes of the running servers, with their addresses.
    pub fn processes(&self) -> Vec<(String, u32)> {
        let running = self.places.iter();
        running
            .filter_map(|place| Some((place.address.clone(), place.process.as_ref()?.id())))
            .collect()
    }

    /// As `kill -9`.
    pub fn kill(&mut self, index: usize) -> Result<()> {
        let server = &mut self.places[index];
        if let Some(mut process) = server.process.take() {
            signal(&process, Signal::KILL)?;
            process.wait().map_err(io("wait"))?;
        }
        server.is_paused = false;
        Ok(())
    }

    /// As `kill -STOP`.
    pub fn pause(&mut self, index: usize) -> Result<()> {
        self.places[index].is_paused = true;
        self.signal(index, Signal::STOP)
    }

    /// As `kill -CONT`.
    pub fn resume(&mut self, index: usize) -> Result<()> {
        self.places[index].is_paused = false;
        self.signal(index, Signal::CONT)
    }

    /// As `kill`: asks the server to leave, and returns at once.
    pub fn request_leave(&self, index: usize) -> Result<()> {
        self.signal(index, Signal::TERM)
    }

    /// Asks the server to leave, waits until it has left, and returns its exit status.
    pub fn leave(&mut self, index: usize) -> Result<Option<i32>> {
        self.request_leave(index)?;
        let Some(mut process) = self.places[index].process.take() else {
            return Ok(None);
        };
        Ok(process.wait().map_err(io("wait"))?.code())
    }

    /// Waits until a server that was asked to leave has ended, and returns its exit status; `None` if it was ended by a
    /// signal.
    ///
    /// # Errors
    ///
    /// If the server has not ended when the patience ends.
    pub fn await_exit(&mut self, index: usize, patience: Duration) -> Result<Option<i32>> {
        let Some(mut process) = self.places[index].process.take() else {
            return Ok(None);
        };
        let ends = pidfd_open(Pid::from_child(&process), PidfdFlags::empty());
        let ends = ends.map_err(|error| io("watch a process")(error.into()))?;
        let limit = Timespec {
            tv_sec: patience.as_secs() as i64,
            tv_nsec: patience.subsec_nanos().into(),
        };
        let mut events = [PollFd::new(&ends, PollFlags::IN)];
        poll(&mut events, Some(&limit)).map_err(|error| io("wait")(error.into()))?;
        match process.try_wait().map_err(io("wait"))? {
            Some(status) => Ok(status.code()),
            None => {
                self.places[index].process = Some(process);
                Err(Error::Late(
                    patience,
                    format!("server {index} has not ended"),
                ))
            }
        }
    }

    fn signal(&self, index: usize, which: Signal) -> Result<()> {
        match &self.places[index].process {
            Some(process) => signal(process, which),
            None => Ok(()),
        }
    }

    /// Runs a command against the cluster, by the server of a place. Gives its output, or the error that it prints.
    pub fn crucial(&self, first: usize, words: &[&str]) -> Result<String, String> {
        run(&self.executable, &self.addresses(first), words)
    }

    /// The addresses for clients.
    pub fn entry(&self) -> Entry {
        Entry(
            self.places
                .iter()
                .map(|server| server.address.clone())
                .collect(),
        )
    }

    /// The addresses of all places, as in `CRUCIAL_CLUSTER`, beginning with the place `first`.
    pub fn addresses(&self, first: usize) -> String {
        self.entry().addresses(first)
    }

    /// A new client, which connects to the place `first`, or to any other if that fails.
    pub fn client(&self, first: usize) -> Result<Arc<Client>> {
        self.entry().client(first)
    }

    /// A new client, with settings of its own.
    pub fn client_with(&self, first: usize, set: impl FnOnce(&mut Config)) -> Result<Arc<Client>> {
        self.entry().client_with(first, set)
    }

    /// Makes the calls of `act` by a new client.
    pub fn with<R>(&self, act: impl FnOnce() -> crucial_object::Result<R>) -> Result<R> {
        let client = self.client(0)?;
        let done = caller::with(client.clone(), act);
        client.goodbye()?;
        Ok(done?)
    }

    /// The state of the cluster, as the server of a place knows it.
    pub fn info(&self, index: usize) -> Result<ClusterInfo> {
        let client = self.client(index)?;
        let info = client.cluster_info();
        client.goodbye()?;
        Ok(info?)
    }

    /// Waits until exactly the running servers are members, and each partition has all of its replicas.
    pub fn wait_whole(&self) -> Result<()> {
        self.wait_whole_within(WHOLE_PATIENCE)
    }

    /// The same, with a patience of its own.
    pub fn wait_whole_within(&self, patience: Duration) -> Result<()> {
        let client = self.client(self.running().first().copied().unwrap_or(0))?;
        let servers = self.running().len();
        let mut last = String::new();
        let whole = wait_until("the cluster is whole", patience, || {
            // From all servers, because one that was cut off may still have an old view.
            let infos = client.cluster_infos()?;
            let is_whole = |info: &ClusterInfo| {
                info.has_lease
                    && info.members.len() == servers
                    && info.view == infos[0].view
                    && info.partitions.iter().all(|partition| partition.is_settled)
            };
            last = format!("{} of {servers} servers answer", infos.len());
            for info in &infos {
                let moving = info.partitions.iter().filter(|p| !p.is_settled).count();
                last += &format!(
                    "; {:x} has view {}, leader {:x?}, voters {:x?}, lease {}, {} members, {moving} partitions moving",
                    info.node,
                    info.view,
                    info.leader,
                    info.voters,
                    info.has_lease,
                    info.members.len()
                );
            }
            Ok(infos.len() == servers && infos.iter().all(is_whole))
        });
        client.goodbye()?;
        whole.map_err(|error| Error::Wrong(format!("{error} ({last})")))
    }

    /// The place of an object's primary.
    pub fn primary<T>(&self, object: &Shared<T>) -> Result<usize>
    where
        T: SharedType,
    {
        self.primary_of(&object.id())
    }

    /// The same, of the object with this id.
    pub fn primary_of(&self, object: &ObjectId) -> Result<usize> {
        let client = self.client(self.running().first().copied().unwrap_or(0))?;
        let routes = client.routes();
        client.goodbye()?;
        let primary = routes.primary(routes.partition(object));
        let address = primary.map(|server| server.address.clone());
        let places = self.places.iter();
        let place =
            address.and_then(|address| places.clone().position(|server| server.address == address));
        place.ok_or(Error::Wrong("the object has no primary".to_owned()))
    }
}

/// The addresses for clients, which stay valid while servers come and go.
#[derive(Clone, Debug)]
pub struct Entry(Vec<String>);

impl Entry {
    /// The addresses of all places, as in `CRUCIAL_CLUSTER`, beginning with the place `first`.
    pub fn addresses(&self, first: usize) -> String {
        let count = self.0.len();
        let places = (0..count).map(|index| (first + index) % count);
        let addresses = places.map(|index| self.0[index].as_str());
        addresses.collect::<Vec<_>>().join(",")
    }

    /// A new client, which connects to the place `first`, or to any other if that fails.
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

fn signal(process: &Child, signal: Signal) -> Result<()> {
    let process = Pid::from_child(process);
    kill_process(process, signal).map_err(|error| Error::Io {
        what: format!("signal {signal:?}"),
        source: error.into(),
    })
}

impl Place {
    /// Waits until the server that was just started is ready.
    fn await_ready(&mut self) -> Result<()> {
        match self.is_ready(READY_PATIENCE)? {
            true => Ok(()),
            false => Err(late()),
        }
    }

    /// Whether the server is ready, at the latest after `patience`.
    fn is_ready(&mut self, patience: Duration) -> Result<bool> {
        if self.process.is_none() {
            return Err(Error::Wrong("the server was not started".to_owned()));
        }
        let Some(first_line) = &self.first_line else {
            return Ok(true);
        };
        match first_line.recv_timeout(patience) {
            Ok(line) => address_of(&line)?,
            Err(RecvTimeoutError::Timeout) => return Ok(false),
            Err(RecvTimeoutError::Disconnected) => address_of("")?,
        };
        self.first_line = None;
        Ok(true)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
