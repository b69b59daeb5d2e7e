//! How a server is started.

use std::sync::Arc;
use std::time::Duration;

use crucial_node::control_group::ControlGroup;
use crucial_node::{Limits, NoModules, TypeSource};
use crucial_proto::Endpoint;

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens. With a TCP port it also listens on a Unix socket, which
    /// clients of the same user on the same machine prefer.
    pub listen: Vec<Endpoint>,
    /// How many threads execute calls; 0: one for each core.
    pub threads: usize,
    /// A client that was silent for this long has ended: its waiting calls give up their places, and
    /// with an owner its run's objects go. Clients send a sign of life three times in this time.
    pub lease: Duration,
    /// How long a thread spins before it sleeps, when that has proved worth while lately. Zero: never.
    pub spin: Duration,
    /// Calls leave no completion records, so that one that is repeated after a lost connection is executed
    /// again. To measure what the records cost, and for nothing else.
    pub at_least_once: bool,
    /// In a cluster: a change goes out when this number of servers have it, or as many as its object has replicas if these are
    /// fewer. While there are not enough it waits. Between 1 and [`REPLICAS_MAX`](crate::REPLICAS_MAX); the same at all
    /// servers.
    pub min_replicas: u8,
    /// The limits.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: Vec::new(),
            threads: 0,
            lease: Duration::from_secs(10),
            spin: default_spin(),
            at_least_once: false,
            min_replicas: 1,
            limits: Limits::default(),
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

/// The parts that a server is put together with.
pub struct Parts {
    /// Its control group; `None`: the server is alone.
    pub control: Option<Arc<dyn ControlGroup>>,
    /// Where uploaded types come from.
    pub types: Arc<dyn TypeSource>,
}

impl Default for Parts {
    /// A server that is alone, and takes no modules.
    fn default() -> Self {
        Parts {
            control: None,
            types: Arc::new(NoModules),
        }
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The server cannot listen there.
    #[error(
        "cannot listen on {endpoint}: {}",
        crucial_object::system_reason(source)
    )]
    Listen {
        /// Where.
        endpoint: Endpoint,
        /// Why not.
        source: std::io::Error,
    },
    /// A resource of the operating system is missing.
    #[error("cannot set up the server: {}", crucial_object::system_reason(.0))]
    Setup(#[from] std::io::Error),
    /// A setting makes no sense.
    #[error("{0}")]
    Config(String),
    /// The server cannot be part of the cluster.
    #[error("{0}")]
    Cluster(String),
}
