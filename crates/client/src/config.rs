//! How a client connects.

use std::time::Duration;

use crucial_object::{Result, RunId};
use crucial_proto::Endpoint;
use crucial_proto::frame::Attempt;

/// How a client connects.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server, or one of a cluster.
    pub endpoint: Endpoint,
    /// More servers of the cluster, to be tried when the first does not answer.
    pub seeds: Vec<Endpoint>,
    /// The application run; a random one by default.
    pub run: RunId,
    /// Whether the run ends with this client, or with another.
    pub owner: bool,
    /// The namespace of persistent objects.
    pub namespace: String,
    /// On how many servers of a cluster an object is kept that does not say; 0: the servers decide.
    pub replicas: u8,
    /// For how long calls are held while their server cannot be reached; then they fail with
    /// [`Error::Unavailable`](crucial_object::Error::Unavailable). A call that was sent already is not sent again later
    /// than eight of the servers' leases for clients (80 s by default) after the server was heard: it fails with
    /// [`Error::SessionExpired`](crucial_object::Error::SessionExpired), whatever the patience.
    pub patience: Duration,
    /// How long a thread spins before it sleeps, when that has proved worth while lately. Zero: never.
    pub spin: Duration,
    /// Whether a server on this machine is reached over its Unix socket, if it has one.
    pub local_socket: bool,
    /// The attempt of an exactly-once thread whose session this client takes up: calls get the results of
    /// the same calls of earlier attempts. Nothing of it is acknowledged until the thread is fenced.
    pub exactly_once: Option<Attempt>,
    /// Told once in each outage that a server which is alone does not answer, and when it does again. It must not block.
    pub tell: Option<fn(&str)>,
    /// The modules that this program has with it. They are pushed when the server does not know a type.
    pub modules: Option<Modules>,
}

/// Gives modules, as their bytes.
pub type Modules = fn() -> Result<Vec<Vec<u8>>>;

impl Config {
    /// A client that owns a run of its own.
    pub fn new(endpoint: Endpoint) -> Config {
        Config {
            endpoint,
            seeds: Vec::new(),
            run: RunId(random()),
            owner: true,
            namespace: "default".to_owned(),
            replicas: 0,
            patience: Duration::from_secs(30),
            spin: default_spin(),
            local_socket: true,
            exactly_once: None,
            tell: None,
            modules: None,
        }
    }

    /// The configured servers.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = Endpoint> {
        std::iter::once(&self.endpoint).chain(&self.seeds).cloned()
    }
}

fn default_spin() -> Duration {
    match std::thread::available_parallelism() {
        Ok(cores) if cores.get() > 1 => Duration::from_micros(50),
        _ => Duration::ZERO,
    }
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    bytes
}
