//! The runtime of a program: its client, its embedded server, its platform. It starts at first use.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crucial_client::Client;
use crucial_core::{Endpoint, Endpoints, local};
use crucial_object::caller::{self, Caller, Start};
use crucial_object::{Error, Result, RunId};
use crucial_platform::{InProcess, LocalConfig, LocalPlatform, Platform, worker};
use crucial_server::Server;

use crate::config::{Config, PlatformKind};
use crate::output::Lines;
use crate::worker::Worker;

/// What a running program has.
pub(crate) struct Runtime {
    pub config: Config,
    pub client: Arc<Client>,
    embedded: Option<Server>,
    platform: Mutex<Option<Arc<dyn Platform>>>,
}

enum State {
    Idle(Option<Config>),
    Running(Arc<Runtime>),
}

static STATE: Mutex<State> = Mutex::new(State::Idle(None));
static MAIN_IS_OURS: AtomicBool = AtomicBool::new(false);

inventory::submit! {
    Start(|| Ok(current()?.client.clone() as Arc<dyn Caller>))
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(|e| e.into_inner())
}

/// `main` has `#[crucial::main]`, so that this executable can be a worker.
pub(crate) fn main_is_ours() {
    MAIN_IS_OURS.store(true, Ordering::Relaxed);
}

/// Starts the runtime with settings of the program's own, in place of those of the environment.
///
/// # Errors
///
/// [`Error::Config`] if it runs already: call this first in `main`; [`Error::Unavailable`] if the
/// configured server can not be reached.
pub fn init(config: Config) -> Result<()> {
    {
        let mut state = state();
        match &mut *state {
            State::Running(_) => {
                return Err(Error::Config {
                    detail: "crucial::init comes before the first use of Crucial".to_owned(),
                });
            }
            State::Idle(chosen) => *chosen = Some(config),
        }
    }
    current().map(drop)
}

/// The id of this program's run: processes that are given it in `CRUCIAL_RUN` join the run.
pub fn run_id() -> Result<RunId> {
    Ok(current()?.client.run())
}

/// Removes all persistent objects of this program's namespace (`CRUCIAL_NAMESPACE`), for everybody; how many there
/// were. Calls that wait in them, and later calls, fail with [`Error::Lost`].
pub fn clear_namespace() -> Result<u64> {
    caller::current()?.clear_namespace()
}

/// The runtime of this process, which is started if need be.
pub(crate) fn current() -> Result<Arc<Runtime>> {
    let mut state = state();
    match &mut *state {
        State::Running(runtime) => Ok(runtime.clone()),
        State::Idle(config) => {
            let config = match config.take() {
                Some(config) => config,
                None => Config::from_env()?,
            };
            let runtime = Arc::new(Runtime::start(config)?);
            caller::install(Some(runtime.client.clone()));
            *state = State::Running(runtime.clone());
            Ok(runtime)
        }
    }
}

/// Whether the runtime has started.
#[cfg(feature = "cli")]
pub(crate) fn is_running() -> bool {
    matches!(&*state(), State::Running(_))
}

/// Makes the runtime of this worker process that of its cloud thread: what the thread creates and spawns
/// belongs to the run that it is part of.
pub(crate) fn adopt(client: &Arc<Client>) -> Result<()> {
    let runtime = Runtime {
        config: Config::from_env()?,
        client: client.clone(),
        embedded: None,
        platform: Mutex::default(),
    };
    let previous = std::mem::replace(&mut *state(), State::Running(Arc::new(runtime)));
    // Threads that the function starts itself find it here.
    caller::install(Some(client.clone()));
    // Its workers end with it, which takes a moment; so not under the lock.
    drop(previous);
    Ok(())
}

/// Ends the run.
pub(crate) fn end() {
    let State::Running(runtime) = std::mem::replace(&mut *state(), State::Idle(None)) else {
        return;
    };
    caller::install(None);
    let platform = runtime.platform().take();
    if let Some(platform) = platform {
        platform.shutdown();
    }
    if let Err(error) = runtime.client.goodbye() {
        tracing::debug!(%error, "no goodbye");
    }
    // The last one to let go stops the embedded server.
    drop(runtime);
}

impl Runtime {
    fn start(config: Config) -> Result<Runtime> {
        if worker::is_worker() && !MAIN_IS_OURS.load(Ordering::Relaxed) {
            return Err(Error::Config {
                detail:
                    "this process is a worker, but its `main` is not #[crucial::main], so it would \
                         run the whole program again"
                        .to_owned(),
            });
        }
        let (servers, embedded) = match &config.cluster {
            Some(endpoints) => (endpoints.clone(), None),
            None => {
                let (endpoint, server) = embedded_server(&config)?;
                (endpoint.into(), Some(server))
            }
        };
        let mut client = crucial_client::Config::new(servers.first().clone());
        client.seeds = servers.others().to_vec();
        client.modules = Some(crate::modules::own);
        client.namespace.clone_from(&config.namespace);
        client.replicas = config.replicas;
        client.patience = config.patience;
        client.spin = spin(config.spin);
        if let Some(run) = config.run {
            client.run = run;
            client.owner = false;
        }
        Ok(Runtime {
            client: Client::connect(client)?,
            config,
            embedded,
            platform: Mutex::default(),
        })
    }

    /// A runtime whose threads run on `platform`.
    #[cfg(test)]
    pub fn on(platform: Arc<dyn Platform>) -> Result<Runtime> {
        let runtime = Runtime::start(Config::default())?;
        *runtime.platform() = Some(platform);
        Ok(runtime)
    }

    fn platform(&self) -> MutexGuard<'_, Option<Arc<dyn Platform>>> {
        self.platform.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Where other processes find the shared objects, as in `CRUCIAL_CLUSTER`.
    pub fn servers(&self) -> String {
        let servers = Endpoints::new(self.client.seeds());
        let servers = servers.unwrap_or_else(|| self.client.endpoint().clone().into());
        servers.to_string()
    }

    /// The platform, which is started if need be.
    pub fn started_platform(&self) -> Result<Arc<dyn Platform>> {
        let mut platform = self.platform();
        if let Some(platform) = &*platform {
            return Ok(platform.clone());
        }
        let started = self.start_platform()?;
        *platform = Some(started.clone());
        Ok(started)
    }

    fn start_platform(&self) -> Result<Arc<dyn Platform>> {
        match self.config.platform {
            PlatformKind::Local if MAIN_IS_OURS.load(Ordering::Relaxed) => {
                Ok(Arc::new(LocalPlatform::start(LocalConfig {
                    concurrency_max: self.config.concurrency_max,
                    memory_mb_default: Some(self.config.memory_mb),
                    time_limit_default: self.config.time_limit,
                    output: Arc::new(Lines),
                    ..LocalConfig::default()
                })?))
            }
            kind => {
                if kind == PlatformKind::Local {
                    tracing::warn!(
                        "main is not #[crucial::main], so cloud threads run inside this process"
                    );
                }
                Ok(Arc::new(InProcess::new(
                    Arc::new(Worker::in_process()),
                    self.config.concurrency_max,
                    self.config.time_limit,
                )))
            }
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(server) = self.embedded.take() {
            server.stop();
        }
    }
}

/// Spinning steals the core from whoever has work when there is just one.
fn spin(configured: Duration) -> Duration {
    match std::thread::available_parallelism() {
        Ok(cores) if cores.get() > 1 => configured,
        _ => Duration::ZERO,
    }
}

fn embedded_server(config: &Config) -> Result<(Endpoint, Server)> {
    let endpoint = Endpoint::Unix(socket_path()?);
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let server = Server::start(crucial_server::Config {
        listen: vec![endpoint.clone()],
        // The other cores are the program's.
        threads: (cores / 2).max(1),
        lease: config.lease,
        spin: spin(config.spin),
        ..Default::default()
    })
    .map_err(|error| Error::Config {
        detail: format!("the embedded server does not start: {error}"),
    })?;
    Ok((endpoint, server))
}

/// A socket for this process, where only its user can reach it.
fn socket_path() -> Result<PathBuf> {
    let directory = local::directory(rustix::process::getuid().as_raw());
    match fs::DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Error::Config {
                detail: format!("can not make {}: {error}", directory.display()),
            });
        }
        _ => remove_left_over(&directory),
    }
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(Error::other)?;
    let random = u64::from_le_bytes(random);
    Ok(directory.join(format!(
        "embedded-{}-{random:016x}.sock",
        std::process::id()
    )))
}

/// Removes the sockets of embedded servers whose processes were killed.
fn remove_left_over(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process = name
            .to_str()
            .and_then(|name| name.strip_prefix("embedded-"))
            .and_then(|rest| rest.split('-').next());
        if let Some(process) = process
            && !Path::new("/proc").join(process).exists()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}
