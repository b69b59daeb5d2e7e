//! The server that is embedded in a program which names no other.

use std::path::PathBuf;
#[cfg(feature = "modules")]
use std::sync::Arc;
use std::time::Duration;

use crucial_object::{Error, Result};
use crucial_proto::{Endpoint, local};
use crucial_server::{Parts, Server};

use crate::config::Config;

/// Starts a server that only this program and its workers use.
pub(crate) fn start_embedded(config: &Config) -> Result<(Endpoint, Server)> {
    let endpoint = Endpoint::Unix(socket_path()?);
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let server_config = crucial_server::Config {
        listen: vec![endpoint.clone()],
        // The other cores are the program's.
        threads: (cores / 2).max(1),
        lease: config.lease,
        spin: effective_spin(config.spin),
        ..Default::default()
    };
    let server = Server::start_with(server_config, parts()).map_err(|error| Error::Config {
        detail: format!("cannot start the embedded server: {error}"),
    })?;
    Ok((endpoint, server))
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

/// With a single core, spinning only takes time from the thread that is waited for.
pub(crate) fn effective_spin(configured: Duration) -> Duration {
    match std::thread::available_parallelism() {
        Ok(cores) if cores.get() > 1 => configured,
        _ => Duration::ZERO,
    }
}

/// A socket for this process, where only its user can reach it.
fn socket_path() -> Result<PathBuf> {
    let directory = crucial_server::socket_directory().map_err(|error| Error::Config {
        detail: format!("cannot use the directory of local sockets: {error}"),
    })?;
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(Error::other)?;
    let random = u64::from_le_bytes(random);
    Ok(local::embedded_socket(
        &directory,
        std::process::id(),
        random,
    ))
}
