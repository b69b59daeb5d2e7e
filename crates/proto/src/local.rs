//! Where the Unix sockets of servers on this machine are.
//!
//! A server on a TCP port also listens on a Unix socket, in a directory that only its user can enter;
//! clients of the same user on the same machine take it, as it is faster.

use std::path::{Path, PathBuf};

/// The directory of the user's local sockets: in `XDG_RUNTIME_DIR`, or else with the temporary files.
/// Whoever uses it must make sure that it belongs to the user.
pub fn directory(user: u32) -> PathBuf {
    std::env::var_os("XDG_RUNTIME_DIR")
        .map_or_else(std::env::temp_dir, PathBuf::from)
        .join(format!("crucial-{user}"))
}

const OF_PORT: &str = "port-";
const EMBEDDED: &str = "embedded-";
const ENDING: &str = ".sock";

/// The socket of the server on a TCP port.
pub fn socket(directory: &Path, port: u16) -> PathBuf {
    directory.join(format!("{OF_PORT}{port}{ENDING}"))
}

/// The socket of a server that is embedded in a process. The random number is one of the server's own.
pub fn embedded_socket(directory: &Path, process: u32, random: u64) -> PathBuf {
    directory.join(format!("{EMBEDDED}{process}-{random:016x}{ENDING}"))
}

/// Whether a file of the directory is named as the sockets are.
pub fn is_socket(name: &str) -> bool {
    (name.starts_with(OF_PORT) || name.starts_with(EMBEDDED)) && name.ends_with(ENDING)
}
