//! The server: it holds shared objects and executes calls on them.
//!
//! A [`Server`] is a few threads around the state machines of `crucial-core`. In the order in which
//! bytes meet them:
//!
//! - `listener`, `connection`: sockets, and what waits to be written to them.
//! - `event_loop`, `io`: read frames and execute them, on the thread that read them; `watchdog` gives
//!   the loop to another thread when a method takes long.
//! - `service`: what each request does.
//! - `session`: sessions, runs and their leases.
//! - `types`: what it can execute.
//! - `table`, `slot`: finds an object, and orders the calls on it.
//! - `keeper`: time: leases, time-outs of waiting calls.
//! - `cluster`: how several servers hold objects together.
//!
//! ```
//! use crucial_server::{Config, Server};
//!
//! let config = Config {
//!     listen: vec!["127.0.0.1:0".parse()?],
//!     ..Config::default()
//! };
//! let server = Server::start(config)?;
//! println!("ready at {}", server.endpoints()[0]);
//! server.stop();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
#[cfg(feature = "cluster")]
use std::time::Instant;

use crucial_core::Endpoint;
use crucial_object::ObjectId;

mod clock;
#[cfg_attr(
    not(feature = "cluster"),
    allow(
        dead_code,
        reason = "a server that is alone has no control group to speak to"
    )
)]
mod cluster;
mod connection;
mod event_loop;
mod io;
mod keeper;
mod limits;
mod listener;
mod service;
mod session;
mod slot;
mod table;
mod types;
mod watchdog;

#[cfg(feature = "cluster")]
pub use cluster::ClusterConfig;
pub use cluster::{REPLICAS_MAX, REPLICAS_OF_PERSISTENT};
#[cfg(feature = "modules")]
pub use crucial_modules::Limits as ModuleLimits;
pub use limits::Limits;

/// How often a server that leaves looks whether the others do, too.
#[cfg(feature = "cluster")]
const LEAVE_LOOK: Duration = Duration::from_millis(50);

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens. With a TCP port it also listens on a Unix socket, which
    /// clients of the same user on the same machine prefer.
    pub listen: Vec<Endpoint>,
    /// How many threads execute calls; 0: one for each core.
    pub threads: usize,
    /// A client that was silent for so long has ended: its waiting calls give up their places, and
    /// with an owner its run's objects go. Clients send a sign of life three times in this time.
    pub lease: Duration,
    /// How long a thread spins before it sleeps, when that has proved worth while lately. Zero: never.
    pub spin: Duration,
    /// Calls leave no completion records, so that one that is repeated after a lost connection is executed
    /// again. To measure what the records cost, and for nothing else.
    pub at_least_once: bool,
    /// The limits.
    pub limits: Limits,
    /// How it is part of a cluster; `None`: it is alone.
    #[cfg(feature = "cluster")]
    pub cluster: Option<ClusterConfig>,
    /// Limits of uploaded modules.
    #[cfg(feature = "modules")]
    pub module_limits: ModuleLimits,
    /// Where compiled modules are kept, so that a server that takes them in again has them at once: a directory
    /// that nobody but this user can write to. `None`: nowhere.
    #[cfg(feature = "modules")]
    pub module_cache: Option<std::path::PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: Vec::new(),
            threads: 0,
            lease: Duration::from_secs(10),
            spin: default_spin(),
            at_least_once: false,
            limits: Limits::default(),
            #[cfg(feature = "cluster")]
            cluster: None,
            #[cfg(feature = "modules")]
            module_limits: ModuleLimits::default(),
            #[cfg(feature = "modules")]
            module_cache: None,
        }
    }
}

/// 50 µs where there is a second core, else nothing.
fn default_spin() -> Duration {
    match std::thread::available_parallelism() {
        Ok(cores) if cores.get() > 1 => Duration::from_micros(50),
        _ => Duration::ZERO,
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// It can not listen there.
    #[error("can not listen on {endpoint}: {source}")]
    Listen {
        /// Where.
        endpoint: Endpoint,
        /// Why not.
        source: std::io::Error,
    },
    /// A resource of the operating system is missing.
    #[error("can not set up the server: {0}")]
    Setup(#[from] std::io::Error),
    /// A setting makes no sense.
    #[error("configuration: {0}")]
    Config(String),
    /// It can not be part of the cluster.
    #[error("{0}")]
    Cluster(String),
}

/// Counts of what a server holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Objects.
    pub objects: usize,
    /// Completion records, of all objects that no call is in just now.
    pub records: usize,
    /// Times at which something may have to be done, above all time-outs of waiting calls.
    pub deadlines: usize,
    /// Open connections.
    pub connections: usize,
    /// Sessions of live clients.
    pub sessions: usize,
    /// Threads, of all that the server has: loops, keeper, watchdog, and those in long methods.
    pub threads: usize,
}

/// A running server. Dropping it stops it.
pub struct Server {
    service: Arc<service::Service>,
    loops: Arc<event_loop::Loops>,
    endpoints: Vec<Endpoint>,
    threads: Vec<JoinHandle<()>>,
    #[cfg(feature = "cluster")]
    group: Option<Arc<crucial_control::Group>>,
    /// Socket files, removed at the end.
    _files: Vec<listener::SocketFile>,
}

impl Server {
    /// Starts a server; when this returns it can be connected to, and is a member of its cluster.
    pub fn start(config: Config) -> Result<Server, StartError> {
        if config.listen.is_empty() {
            return Err(StartError::Config("`listen` is empty".to_owned()));
        }
        if config.lease < Duration::from_millis(100) {
            return Err(StartError::Config(format!(
                "a lease of {:?} is below 100 ms: clients could not keep it",
                config.lease
            )));
        }
        let mut bound = listener::Bound::default();
        for endpoint in &config.listen {
            bound.listen(endpoint)?;
        }
        let threads = match config.threads {
            0 => std::thread::available_parallelism().map_or(1, Into::into),
            threads => threads,
        };
        #[cfg(feature = "cluster")]
        let candidate = config
            .cluster
            .as_ref()
            .map(cluster::Candidate::new)
            .transpose()?;
        #[cfg(feature = "cluster")]
        let shared = candidate.as_ref().map(cluster::Candidate::cluster);
        #[cfg(not(feature = "cluster"))]
        let shared = None;
        let service = Arc::new(service::Service::new(&config, shared));
        let loops = event_loop::Loops::new(threads, service.clone(), bound.listeners)?;
        let mut handles = vec![keeper::start(&service)?, watchdog::start(&loops)?];
        if service.cluster.is_some() {
            handles.extend(cluster::start(&service)?);
        }
        for index in 0..threads {
            handles.push(loops.spawn(index)?);
        }
        #[cfg_attr(not(feature = "cluster"), expect(unused_mut))]
        let mut server = Server {
            service,
            loops,
            endpoints: bound.endpoints,
            threads: handles,
            #[cfg(feature = "cluster")]
            group: None,
            _files: bound.files,
        };
        #[cfg(feature = "cluster")]
        if let Some(candidate) = candidate {
            // If that fails the server stops as it is dropped.
            server.group = Some(candidate.join(&server.service, &server.endpoints)?);
            server.service.await_view();
        }
        Ok(server)
    }

    /// Leaves the cluster: what this server holds goes to the others first. Blocks until that is done, or for so
    /// long; whether it is done. The last server of a cluster has nobody to give anything to.
    #[cfg(feature = "cluster")]
    pub fn leave(&self, patience: Duration) -> bool {
        let (Some(group), Some(cluster)) = (&self.group, &self.service.cluster) else {
            return true;
        };
        if cluster.is_alone() {
            return true;
        }
        group.leave();
        let started = Instant::now();
        while started.elapsed() < patience && group.is_part() {
            if group.wait_dismissed(LEAVE_LOOK) {
                return true;
            }
            if cluster.nobody_stays() {
                // The others leave, too. Without this server they may not learn of it.
                std::thread::sleep(cluster.lease() / 2);
                return true;
            }
        }
        group.wait_dismissed(Duration::ZERO)
    }

    /// Blocks until the server can not go on, and says why; or until `stop`ped, or for so long.
    pub fn wait_failed(&self, patience: Duration) -> Option<String> {
        self.service.wait_failed(patience)
    }

    /// Where it listens, with the ports that it got.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// What it holds now. Takes a look at every object.
    pub fn status(&self) -> Status {
        Status {
            objects: self.service.table.len(),
            records: self.service.table.records(),
            deadlines: self.service.keeper.len(),
            connections: self.service.connections(),
            sessions: self.service.sessions.len(),
            threads: self.threads.len() + self.service.long_methods(),
        }
    }

    /// The encoded state of an object, between two of its calls; `None` if it has none of that id. Blocks while a
    /// method of the object runs.
    pub fn state(&self, id: ObjectId) -> Option<crucial_object::Result<Vec<u8>>> {
        self.service.state(id)
    }

    /// Stops it: closes its connections, and waits for its threads, but not for methods that run long.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        #[cfg(feature = "cluster")]
        if let Some(group) = self.group.take() {
            group.stop();
        }
        self.service.stop();
        self.loops.wake();
        for thread in self.threads.drain(..) {
            // A thread that panicked has printed why.
            let _ = thread.join();
        }
        self.service.sessions.disconnect();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
