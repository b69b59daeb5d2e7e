//! The runtime of a program: its client, its embedded server, its platform. The runtime starts at first use.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crucial_client::Client;
use crucial_object::caller::{self, Caller, Start};
use crucial_object::{Error, Result, RunId};
use crucial_platform::{InProcess, LocalConfig, LocalPlatform, Platform, worker};
use crucial_proto::Endpoints;

use crate::config::{Config, MEMORY_MB_MIN, PlatformKind};
use crate::output::{self, Lines};
use crate::server::Embedded;
use crate::worker::Worker;

/// What a running program has.
pub struct Runtime {
    config: Config,
    client: Arc<Client>,
    embedded: Option<Embedded>,
    platform: Mutex<Option<Arc<dyn Platform>>>,
}

enum State {
    Idle(Option<Config>),
    Running(Arc<Runtime>),
}

static STATE: Mutex<State> = Mutex::new(State::Idle(None));
static HAS_ROLES: AtomicBool = AtomicBool::new(false);

inventory::submit! {
    Start(|| Ok(current()?.client.clone() as Arc<dyn Caller>))
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(|e| e.into_inner())
}

/// Records that `main` has `#[crucial::main]` (or is the command line), so that this executable can be a worker.
pub fn declare_roles() {
    HAS_ROLES.store(true, Ordering::Relaxed);
}

/// Starts the runtime with settings of the program's own, in place of those of the environment.
///
/// # Errors
///
/// [`Error::Config`] if the runtime has started already: call `init` first in `main`. [`Error::Unavailable`] if the
/// configured server cannot be reached.
pub fn init(config: Config) -> Result<()> {
    {
        let mut state = state();
        match &mut *state {
            State::Running(_) => {
                return Err(Error::Config {
                    detail: "crucial::init must be called before the first use of Crucial"
                        .to_owned(),
                });
            }
            State::Idle(chosen) => *chosen = Some(config),
        }
    }
    current().map(drop)
}

/// The id of this program's run. Processes that find the id in `CRUCIAL_RUN` join the run.
pub fn run_id() -> Result<RunId> {
    Ok(current()?.client.run())
}

/// Removes all persistent objects of this program's namespace (`CRUCIAL_NAMESPACE`) for all programs, and returns how
/// many there were. Calls that wait in these objects, and later calls, fail with [`Error::Lost`].
pub fn clear_namespace() -> Result<u64> {
    caller::current()?.clear_namespace()
}

/// The runtime of this process; starts the runtime if this is its first use.
///
/// # Errors
///
/// As [`init`]; [`Error::Config`] for a setting of the environment that is not understood.
pub fn current() -> Result<Arc<Runtime>> {
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
pub fn is_running() -> bool {
    matches!(&*state(), State::Running(_))
}

/// Gives this worker process the runtime of its cloud thread, so that what the thread creates and spawns belongs to
/// the thread's run, with the settings of the program.
pub(crate) fn adopt(client: &Arc<Client>, config: &Config) {
    let runtime = Runtime {
        config: config.clone(),
        client: client.clone(),
        embedded: None,
        platform: Mutex::default(),
    };
    let previous = std::mem::replace(&mut *state(), State::Running(Arc::new(runtime)));
    // For threads that the cloud function starts by `std::thread`.
    caller::install(Some(client.clone()));
    // Dropping a runtime ends its workers, which takes a moment: not under the lock.
    drop(previous);
}

/// Ends the run: its cloud threads, the session, the embedded server.
pub fn end() {
    let State::Running(runtime) = std::mem::replace(&mut *state(), State::Idle(None)) else {
        return;
    };
    caller::install(None);
    let platform = runtime.platform().take();
    if let Some(platform) = platform {
        platform.shutdown();
    }
    if let Err(error) = runtime.client.goodbye() {
        tracing::debug!(%error, "the session was not closed; it ends with its lease");
    }
    // Dropping the last reference stops the embedded server.
    drop(runtime);
}

impl Runtime {
    pub(crate) fn start(config: Config) -> Result<Runtime> {
        if worker::is_worker() && !HAS_ROLES.load(Ordering::Relaxed) {
            return Err(Error::Config {
                detail:
                    "this process is a worker, but its `main` is not #[crucial::main]: the whole program would run \
                         again"
                        .to_owned(),
            });
        }
        let (servers, embedded) = match &config.cluster {
            Some(endpoints) => (endpoints.clone(), None),
            None => {
                let server = Embedded::start(&config)?;
                (server.endpoint().clone().into(), Some(server))
            }
        };
        Ok(Runtime {
            client: Client::connect(config.client(&servers))?,
            config,
            embedded,
            platform: Mutex::default(),
        })
    }

    /// A runtime whose threads run on `platform`.
    #[cfg(test)]
    pub(crate) fn on(platform: Arc<dyn Platform>) -> Result<Runtime> {
        let runtime = Runtime::start(Config::default())?;
        *runtime.platform() = Some(platform);
        Ok(runtime)
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The session at the servers.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    fn platform(&self) -> MutexGuard<'_, Option<Arc<dyn Platform>>> {
        self.platform.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The servers' addresses for other processes, as `CRUCIAL_CLUSTER` has them.
    pub fn servers(&self) -> String {
        let servers = Endpoints::new(self.client.seeds());
        let servers = servers.unwrap_or_else(|| self.client.endpoint().clone().into());
        servers.to_string()
    }

    /// The platform; starts the platform if this is its first use.
    pub(crate) fn started_platform(&self) -> Result<Arc<dyn Platform>> {
        let mut platform = self.platform();
        if let Some(platform) = &*platform {
            return Ok(platform.clone());
        }
        let started = self.start_platform()?;
        *platform = Some(started.clone());
        Ok(started)
    }

    /// Where cloud threads run.
    pub(crate) fn platform_kind(&self) -> PlatformKind {
        let default = match HAS_ROLES.load(Ordering::Relaxed) {
            true => PlatformKind::Local,
            false => PlatformKind::InProcess,
        };
        self.config.platform.unwrap_or(default)
    }

    fn start_platform(&self) -> Result<Arc<dyn Platform>> {
        match self.platform_kind() {
            PlatformKind::Local => self.local_platform(),
            PlatformKind::InProcess => {
                if self.config.platform.is_none() {
                    output::note(format_args!(
                        "main is not #[crucial::main], so cloud threads run inside this process \
                         (CRUCIAL_PLATFORM=in-process says that this is meant)"
                    ));
                }
                Ok(Arc::new(InProcess::new(
                    Arc::new(Worker::in_process()),
                    self.config.concurrency_max,
                    self.config.time_limit,
                )))
            }
        }
    }

    fn local_platform(&self) -> Result<Arc<dyn Platform>> {
        // What a worker starts runs beside it.
        if let Some(platform) = worker::platform() {
            return Ok(platform);
        }
        if !HAS_ROLES.load(Ordering::Relaxed) {
            return Err(Error::Config {
                detail: "CRUCIAL_PLATFORM=local needs an executable that can be a worker: write #[crucial::main] before \
                         its `main`; a test needs `harness = false` for that"
                    .to_owned(),
            });
        }
        Ok(Arc::new(LocalPlatform::start(LocalConfig {
            concurrency_max: self.config.concurrency_max,
            memory_mb_default: Some(self.config.memory_mb),
            memory_mb_min: MEMORY_MB_MIN,
            time_limit_default: self.config.time_limit,
            output: Arc::new(Lines),
            ..LocalConfig::default()
        })?))
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(server) = self.embedded.take() {
            server.stop();
        }
    }
}
