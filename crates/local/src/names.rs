//! The names of sockets that serve one user.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

const EMBEDDED: &str = "embedded-";
const TCP: &str = "tcp-";
const ENDING: &str = ".sock";

/// The user whose files this process makes.
pub(crate) fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The socket of the server that is embedded in a process. The random number is one of the server's own.
pub(crate) fn embedded(directory: &Path, process: u32, random: u64) -> PathBuf {
    directory.join(format!("{EMBEDDED}{process}-{random:016x}{ENDING}"))
}

/// The socket of the server at a TCP address of a network.
pub(crate) fn tcp(directory: &Path, network: u64, address: SocketAddr) -> PathBuf {
    let (ip, port) = (address.ip(), address.port());
    directory.join(format!("{TCP}{network}-{ip}-{port}{ENDING}"))
}

/// Whether a socket is named as those are that serve one user only.
pub fn is_own(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| {
        let is_named = name.starts_with(EMBEDDED) || name.starts_with(TCP);
        is_named && name.ends_with(ENDING)
    })
}
