//! A worker: runs one cloud thread after the other.

use std::sync::{Arc, Mutex};

use crucial_client::Client;
use crucial_core::Endpoints;
use crucial_object::caller::{self, Caller};
use crucial_object::{Error, Result, decode, encode};
use crucial_platform::worker::{Context, FunctionError, Handler};
use serde_bytes::ByteBuf;

use crate::runtime;
use crate::task::{Payload, Results};
use crate::thread::current;
use crate::thread::recorded::Recorded;

/// Runs payloads in this process.
pub(crate) struct Worker {
    /// Clients that no thread uses now, as the next thread mostly needs the same.
    clients: Mutex<Vec<Arc<Client>>>,
    /// Whether this process is a worker and no more, so that all of it belongs to the thread's run.
    is_process: bool,
}

/// How a panic is told from other errors on the way home.
pub(crate) const PANICKED: &str = "Panicked";

impl Worker {
    /// A process that is a worker.
    pub fn process() -> Worker {
        Worker {
            clients: Mutex::default(),
            is_process: true,
        }
    }

    /// Workers inside the client's own process.
    pub fn in_process() -> Worker {
        Worker {
            is_process: false,
            ..Worker::process()
        }
    }

    fn run(&self, payload: &[u8]) -> Result<Results> {
        let payload: Payload = decode(payload)?;
        let client = self.begin(&payload)?;
        let outcome = if payload.exactly_once {
            self.run_recorded(&client, &payload)
        } else {
            run_calls(client.clone(), &payload, None)
        };
        match &outcome {
            Ok(_) => self.clients().push(client),
            // What it held comes back, before anybody learns that it failed. If there is no server any
            // more, nothing is held.
            Err(_) => drop(client.goodbye()),
        }
        outcome
    }

    /// A client, whose server knows that it runs this thread.
    fn begin(&self, payload: &Payload) -> Result<Arc<Client>> {
        let config = config(payload)?;
        loop {
            let kept = self.kept_client(&config);
            let is_kept = kept.is_some();
            let client = match kept {
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
                // Its session has ended since it was last used.
                Err(_) if is_kept => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn run_recorded(&self, client: &Arc<Client>, payload: &Payload) -> Result<Results> {
        let recorded = Arc::new(Recorded::begin(client, config(payload)?, payload)?);
        let outcome = run_calls(recorded.clone(), payload, Some(recorded.clone()));
        // Whatever the thread made of it.
        recorded.finish(outcome.is_ok())?;
        outcome
    }

    fn clients(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Client>>> {
        self.clients.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A client that is not in use and fits.
    fn kept_client(&self, config: &crucial_client::Config) -> Option<Arc<Client>> {
        while let Some(client) = { self.clients().pop() } {
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
        if self.is_process {
            runtime::adopt(&client)?;
        }
        Ok(client)
    }
}

fn config(payload: &Payload) -> Result<crucial_client::Config> {
    let servers: Endpoints = payload.servers.parse()?;
    let mut config = crucial_client::Config::new(servers.first().clone());
    config.seeds = servers.others().to_vec();
    config.modules = Some(crate::modules::own);
    config.run = payload.run;
    config.owner = false;
    config.namespace.clone_from(&payload.namespace);
    config.replicas = payload.replicas;
    Ok(config)
}

/// Runs the payload's functions, with `caller` for their calls.
fn run_calls(
    caller: Arc<dyn Caller>,
    payload: &Payload,
    recorded: Option<Arc<Recorded>>,
) -> Result<Results> {
    let thread = current::Thread::new(&payload.name, payload.attempt, recorded);
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
        // Other errors come home as they are.
        encode(&outcome).map_err(|error| FunctionError {
            error_type: error.kind().to_owned(),
            message: error.to_string(),
            location: None,
        })
    }
}
