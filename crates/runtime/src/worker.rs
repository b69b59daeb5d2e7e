//! A worker runs one cloud thread after another.

use std::sync::{Arc, Mutex};

use crucial_client::Client;
use crucial_object::caller::{self, Caller};
use crucial_object::{Error, Result, decode, encode};
use crucial_platform::worker::{Context, FunctionError, Handler};
use crucial_proto::Endpoints;
use serde_bytes::ByteBuf;

use crate::modules::program_modules;
use crate::task::{Payload, Results};
use crate::thread::current::{self, Thread};
use crate::thread::recorded::Recorded;

/// Runs payloads in this process.
pub(crate) struct Worker {
    /// Idle clients: the next thread mostly needs the same session settings.
    idle_clients: Mutex<Vec<Arc<Client>>>,
    /// Gives the whole process to the run of the thread. `None` inside the process of the client itself.
    adopt: Option<Adopt>,
}

/// Makes a client that of the whole process.
pub(crate) type Adopt = fn(&Arc<Client>) -> Result<()>;

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

    fn run(&self, payload: &[u8]) -> Result<Results> {
        let payload: Payload = decode(payload)?;
        let client = self.begin(&payload)?;
        let run = || match payload.exactly_once {
            true => self.run_recorded(&client, &payload),
            false => run_calls(client.clone(), &payload, None),
        };
        // An in-process platform has given the thread its name.
        let outcome = match self.adopt {
            Some(_) => in_thread(&payload.name, run),
            None => run(),
        };
        match &outcome {
            Ok(_) => self.idle_clients().push(client),
            // Locks that the thread held are released before its failure is reported. Without a server there are no
            // locks either, so an error of the goodbye does not matter.
            Err(_) => drop(client.goodbye()),
        }
        outcome
    }

    /// A client for this thread, which its server knows to run the thread.
    fn begin(&self, payload: &Payload) -> Result<Arc<Client>> {
        let config = config(payload)?;
        loop {
            let idle = self.take_idle_client(&config);
            let was_idle = idle.is_some();
            let client = match idle {
                Some(client) => client,
                None => self.connect(config.clone())?,
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

    fn run_recorded(&self, client: &Arc<Client>, payload: &Payload) -> Result<Results> {
        let recorded = Arc::new(Recorded::begin(client, config(payload)?, payload)?);
        let outcome = run_calls(recorded.clone(), payload, Some(recorded.clone()));
        // A thread that has caught the error of a divergence has still diverged.
        recorded.finish(outcome.is_ok())?;
        outcome
    }

    fn idle_clients(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Client>>> {
        self.idle_clients.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// An idle client with these settings, if there is one.
    fn take_idle_client(&self, config: &crucial_client::Config) -> Option<Arc<Client>> {
        while let Some(client) = { self.idle_clients().pop() } {
            let fits = client.seeds().contains(&config.endpoint)
                && client.run() == config.run
                && client.namespace() == config.namespace
                && client.replicas() == config.replicas;
            if fits && !client.has_ended() {
                return Some(client);
            }
        }
        None
    }

    fn connect(&self, config: crucial_client::Config) -> Result<Arc<Client>> {
        let client = Client::connect(config)?;
        if let Some(adopt) = self.adopt {
            adopt(&client)?;
        }
        Ok(client)
    }
}

fn config(payload: &Payload) -> Result<crucial_client::Config> {
    let servers: Endpoints = payload.servers.parse()?;
    let mut config = crucial_client::Config::new(servers.first().clone());
    config.seeds = servers.others().to_vec();
    config.modules = Some(program_modules);
    config.run = payload.run;
    config.owner = false;
    config.namespace.clone_from(&payload.namespace);
    config.replicas = payload.replicas;
    Ok(config)
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
        let thread = thread.spawn_scoped(scope, run).map_err(Error::other)?;
        let unwind = |payload| std::panic::resume_unwind(payload);
        thread.join().unwrap_or_else(unwind)
    })
}

/// Runs the payload's functions, with `caller` for their calls.
fn run_calls(
    caller: Arc<dyn Caller>,
    payload: &Payload,
    recorded: Option<Arc<Recorded>>,
) -> Result<Results> {
    let thread = Thread::new(&payload.name, payload.attempt, recorded);
    current::enter(thread, || {
        caller::with(caller, || {
            let results = payload.calls.iter();
            let results = results.map(|call| call.run().map(ByteBuf::from));
            Ok(Results(results.collect::<Result<_>>()?))
        })
    })
}

impl Handler for Worker {
    fn run(&self, _: &Context, payload: &[u8]) -> std::result::Result<Vec<u8>, FunctionError> {
        let outcome = Worker::run(self, payload);
        if let Err(Error::Panicked {
            message, location, ..
        }) = outcome
        {
            return Err(FunctionError {
                error_type: PANICKED.to_owned(),
                message,
                location: Some(location),
            });
        }
        // Other errors travel as values, so that the client sees them unchanged.
        encode(&outcome).map_err(|error| FunctionError {
            error_type: error.kind().to_owned(),
            message: error.to_string(),
            location: None,
        })
    }
}
