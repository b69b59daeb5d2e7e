//! The server that is embedded in a program which names no other.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
#[cfg(feature = "modules")]
use std::sync::Arc;
use std::time::Duration;

use crucial_core::{Endpoint, local};
use crucial_object::{Error, Result};
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
    let directory = local::directory(rustix::process::getuid().as_raw());
    match fs::DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Error::Config {
                detail: format!("cannot create {}: {error}", directory.display()),
            });
        }
        _ => remove_stale_sockets(&directory),
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
fn remove_stale_sockets(directory: &Path) {
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
