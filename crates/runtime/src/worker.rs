//! A worker runs one cloud thread after another.

use std::sync::{Arc, Mutex};

use crucial_client::Client;
use crucial_object::caller::{self, Caller};
use crucial_object::{Error, Result, decode, encode, held};
use crucial_platform::worker::{Context, FunctionError, Handler};
use crucial_proto::Endpoints;

use crate::config::Config;
use crate::parcel::Parcel;
use crate::task::{FunctionCall, Payload, Results};
use crate::thread::current::{self, Thread};
use crate::thread::recorded::Recorded;

/// Runs payloads in this process.
pub(crate) struct Worker {
    /// Idle clients, and their settings: the next thread mostly needs the same.
    idle_clients: Mutex<Vec<(Config, Arc<Client>)>>,
    /// Gives the whole process to the run of the thread. `None` inside the process of the client itself.
    adopt: Option<Adopt>,
}

/// Makes a client that of the whole process, with the settings of a program.
pub(crate) type Adopt = fn(&Arc<Client>, &Config);

/// The outcome of a thread, as it travels.
pub(crate) type Outcome = Result<Parcel<Results>>;

/// The error type by which the client recognizes a panic.
pub(crate) const PANICKED: &str = "Panicked";

impl Worker {
    /// The worker of a process that does nothing else. `adopt` is called with each new client.
    pub fn process(adopt: Adopt) -> Worker {
        Worker {
            idle_clients: Mutex::default(),
            adopt: Some(adopt),
        }
    }

    /// Workers inside the client's own process.
    pub fn in_process() -> Worker {
        Worker {
            idle_clients: Mutex::default(),
            adopt: None,
        }
    }

    /// Runs a payload, and gives its encoded [`Outcome`].
    fn run(&self, payload: &[u8]) -> Result<Vec<u8>> {
        let mut payload: Payload = decode(payload)?;
        self.surround(&payload)?;
        payload.config.cluster = Some(payload.servers.parse()?);
        let client = self.begin(&payload)?;
        let run = || {
            let calls = payload.calls.clone().open(&client)?;
            let results = match payload.exactly_once {
                true => run_recorded(&client, &payload, &calls)?,
                false => run_calls(client.clone(), &payload, &calls, None)?,
            };
            encode_fitting(results, &payload, &client)
        };
        // An in-process platform has given the thread its name.
        let outcome = match self.adopt {
            Some(_) => in_thread(&payload.name, run),
            None => run(),
        };
        match &outcome {
            Ok(_) => self.idle_clients().push((payload.config, client)),
            // Locks that the thread held are released before its failure is reported. Without a server there are no
            // locks either, so an error of the goodbye does not matter.
            Err(_) => drop(client.goodbye()),
        }
        outcome
    }

    /// Gives the process the surroundings that the program wants for the thread.
    fn surround(&self, payload: &Payload) -> Result<()> {
        match self.adopt {
            Some(_) => Ok(payload.surroundings.enter()?),
            None if payload.surroundings.is_empty() => Ok(()),
            None => Err(Error::Config {
                detail: format!(
                    "cloud thread {:?} has variables of its own (Builder::env), but runs inside the program's process                      (CRUCIAL_PLATFORM=in-process), which has one environment for all",
                    payload.name
                ),
            }),
        }
    }

    /// A client for this thread, which its server knows to run the thread.
    fn begin(&self, payload: &Payload) -> Result<Arc<Client>> {
        loop {
            let idle = self.take_idle_client(&payload.config);
            let was_idle = idle.is_some();
            let client = match idle {
                Some(client) => client,
                None => self.connect(&payload.config)?,
            };
            // An exactly-once thread has a session of its own.
            if payload.exactly_once {
                return Ok(client);
            }
            match client.begin_thread(payload.attempt()) {
                Ok(()) => return Ok(client),
                Err(Error::Fenced) => return Err(Error::Fenced),
                // The session has ended while the client was idle.
                Err(_) if was_idle => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn idle_clients(&self) -> std::sync::MutexGuard<'_, Vec<(Config, Arc<Client>)>> {
        self.idle_clients.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// An idle client with these settings, if there is one.
    fn take_idle_client(&self, config: &Config) -> Option<Arc<Client>> {
        while let Some((idle, client)) = { self.idle_clients().pop() } {
            if idle == *config && !client.has_ended() {
                return Some(client);
            }
        }
        None
    }

    fn connect(&self, config: &Config) -> Result<Arc<Client>> {
        let client = Client::connect(session(config)?)?;
        if let Some(adopt) = self.adopt {
            adopt(&client, config);
        }
        Ok(client)
    }
}

/// The settings of a session at the servers that a payload names.
fn session(config: &Config) -> Result<crucial_client::Config> {
    let servers: Option<&Endpoints> = config.cluster.as_ref();
    let servers = servers.ok_or_else(|| Error::Protocol {
        detail: "a payload names no server".to_owned(),
    })?;
    Ok(config.client(servers))
}

fn run_recorded(
    client: &Arc<Client>,
    payload: &Payload,
    calls: &[FunctionCall],
) -> Result<Results> {
    let recorded = Arc::new(Recorded::begin(client, session(&payload.config)?, payload)?);
    let outcome = run_calls(recorded.clone(), payload, calls, Some(recorded.clone()));
    // A thread that has caught the error of a divergence has still diverged.
    recorded.finish(outcome.is_ok())?;
    outcome
}

/// Encodes the results, inside or beside, whichever the platform takes.
fn encode_fitting(results: Results, payload: &Payload, client: &Arc<Client>) -> Result<Vec<u8>> {
    let mut outcome: Outcome = Ok(Parcel::Inside(results));
    let bytes = encode(&outcome)?;
    if bytes.len() as u64 <= payload.result_bytes_max {
        return Ok(bytes);
    }
    drop(bytes);
    if let Ok(results) = &mut outcome {
        results.put_beside(client)?;
    }
    encode(&outcome)
}

/// The stack of a cloud thread, as large as that of a process usually is, so that what runs in `main` runs here.
const STACK_BYTES: usize = 8 << 20;

/// Runs something in a thread of this name, by which a panic is printed.
fn in_thread<R: Send>(name: &str, run: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    let thread = std::thread::Builder::new()
        // The standard library refuses NUL.
        .name(name.replace('\0', " "))
        .stack_size(STACK_BYTES);
    std::thread::scope(|scope| {
        let thread = thread.spawn_scoped(scope, run);
        let thread = thread.map_err(|error| crucial_local::thread::refused(name, &error))?;
        let unwind = |payload| std::panic::resume_unwind(payload);
        thread.join().unwrap_or_else(unwind)
    })
}

/// Runs the payload's functions, with `caller` for their calls.
fn run_calls(
    caller: Arc<dyn Caller>,
    payload: &Payload,
    calls: &[FunctionCall],
    recorded: Option<Arc<Recorded>>,
) -> Result<Results> {
    let thread = Thread::new(&payload.name, payload.attempt(), recorded);
    let run = || {
        let of_calls = calls.iter().map(FunctionCall::run).collect::<Result<_>>()?;
        let passed_on = held::take_passed_on();
        Ok(Results {
            of_calls,
            passed_on,
        })
    };
    let run = || held::attempt(payload.is_last, run);
    current::enter(thread, || caller::with(caller, run))
}

impl Handler for Worker {
    fn run(&self, _: &Context, payload: &[u8]) -> std::result::Result<Vec<u8>, FunctionError> {
        let error = match Worker::run(self, payload) {
            Ok(outcome) => return Ok(outcome),
            Err(Error::Panicked {
                message, location, ..
            }) => {
                return Err(FunctionError {
                    error_type: PANICKED.to_owned(),
                    message,
                    location: Some(location),
                });
            }
            Err(error) => error,
        };
        // Other errors travel as values, so that the client sees them unchanged.
        encode::<Outcome>(&Err(error)).map_err(|error| FunctionError {
            error_type: error.kind().to_string(),
            message: error.to_string(),
            location: None,
        })
    }
}
