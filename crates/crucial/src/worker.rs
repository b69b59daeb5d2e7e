//! A worker: runs one cloud thread after the other.

use std::sync::{Arc, Mutex};

use crucial_client::Client;
use crucial_core::Endpoint;
use crucial_object::{Error, Result, caller, decode, encode};
use crucial_platform::worker::{Context, FunctionError, Handler};
use serde_bytes::ByteBuf;

use crate::runtime;
use crate::task::{Payload, Results};
use crate::thread::current;

/// Runs payloads in this process. Keeps the client of the last one, as the next mostly needs the same.
#[derive(Default)]
pub(crate) struct Worker {
    client: Mutex<Option<Arc<Client>>>,
    /// The client of the process, if it is not for the worker to make one.
    own: Option<Arc<Client>>,
}

/// How a panic is told from other errors on the way home.
pub(crate) const PANICKED: &str = "Panicked";

impl Worker {
    /// A worker inside the client's own process.
    pub fn in_process(client: Arc<Client>) -> Worker {
        Worker {
            client: Mutex::default(),
            own: Some(client),
        }
    }

    fn run(&self, payload: &[u8]) -> Result<Vec<u8>> {
        let payload: Payload = decode(payload)?;
        let client = match &self.own {
            Some(client) => client.clone(),
            None => self.client(&payload)?,
        };
        let thread = current::Thread::new(&payload.name, payload.attempt);
        current::enter(thread, || {
            caller::with(client, || {
                let results: Result<_> = payload
                    .calls
                    .iter()
                    .map(|call| call.run().map(ByteBuf::from))
                    .collect();
                encode(&Results(results?))
            })
        })
    }

    /// The client for a payload's server and run.
    fn client(&self, payload: &Payload) -> Result<Arc<Client>> {
        let endpoint: Endpoint = payload.server.parse()?;
        let mut kept = self.client.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(client) = &*kept
            && *client.endpoint() == endpoint
            && client.run() == payload.run
            && client.namespace() == payload.namespace
        {
            return Ok(client.clone());
        }
        let mut config = crucial_client::Config::new(endpoint);
        config.run = payload.run;
        config.owner = false;
        config.namespace.clone_from(&payload.namespace);
        let client = Client::connect(config)?;
        runtime::adopt(&client)?;
        *kept = Some(client.clone());
        Ok(client)
    }
}

impl Handler for Worker {
    fn run(&self, _: &Context, payload: &[u8]) -> std::result::Result<Vec<u8>, FunctionError> {
        Worker::run(self, payload).map_err(|error| match error {
            Error::Panicked {
                message, location, ..
            } => FunctionError {
                error_type: PANICKED.to_owned(),
                message,
                location: Some(location),
            },
            error => FunctionError {
                error_type: "Crucial".to_owned(),
                message: error.to_string(),
                location: None,
            },
        })
    }
}
