//! The server that is embedded in a program which names no other.

#[cfg(feature = "modules")]
use std::sync::Arc;

use crucial_local::embedded::{self, Refusal};
use crucial_local::{Place, exceeded_limit, files};
use crucial_object::{Error, Result};
use crucial_proto::Endpoint;
use crucial_server::{Parts, Server, StartError};

use crate::config::Config;

/// The embedded server.
pub(crate) struct Embedded {
    server: Server,
    /// Dropped after the server, whose socket is there.
    place: Place,
}

impl Embedded {
    /// Starts a server that only this program and its workers use.
    pub fn start(config: &Config) -> Result<Embedded> {
        files::raise_limit();
        if files::limit() < files::PROGRAM_FILES {
            return Err(Error::Config {
                detail: files::too_few(files::PROGRAM_FILES),
            });
        }
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(Error::other)?;
        let random = u64::from_le_bytes(random);
        let listen = |endpoint: &Endpoint| {
            let started = Server::start_with(server_config(config, endpoint), parts());
            started.map_err(|error| match error {
                StartError::Setup(_) | StartError::Cluster(_) => {
                    Refusal::Anywhere(error.to_string())
                }
                StartError::Listen { ref source, .. } if exceeded_limit(source).is_some() => {
                    Refusal::Anywhere(error.to_string())
                }
                error => Refusal::Here(error.to_string()),
            })
        };
        let started = embedded::listen_somewhere(std::process::id(), random, listen);
        let (place, server) = started.map_err(|reasons| Error::Config {
            detail: format!("cannot start the embedded server: {reasons}"),
        })?;
        Ok(Embedded { server, place })
    }

    /// Where it is reached.
    pub fn endpoint(&self) -> &Endpoint {
        self.place.endpoint()
    }

    /// Stops it.
    pub fn stop(self) {
        self.server.stop();
    }
}

fn server_config(config: &Config, endpoint: &Endpoint) -> crucial_server::Config {
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    crucial_server::Config {
        listen: vec![endpoint.clone()],
        // The other cores are the program's.
        threads: (cores / 2).max(1),
        lease: config.lease,
        spin: config.effective_spin(),
        ..Default::default()
    }
}

/// What the embedded server consists of besides what every server has.
fn parts() -> Parts {
    Parts {
        #[cfg(feature = "modules")]
        types: Arc::new(crucial_modules::Source::new(
            crucial_modules::Limits::default(),
            None,
        )),
        ..Parts::default()
    }
}
