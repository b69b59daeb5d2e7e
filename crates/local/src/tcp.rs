//! The Unix sockets of servers that listen on TCP.
//!
//! The server that is reached over such a socket must be the one that would answer at the TCP address. So a socket is
//! named after the address that was bound, and after the network in which that was: containers may share a directory,
//! and not their loopback.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use crate::directory::bases;
use crate::names::tcp as name;
use crate::socket::remove_stale;

/// Names the network of this process; `None` if that is unknown.
fn network() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata("/proc/self/ns/net").ok()?;
        Some(metadata.ino())
    }
    #[cfg(not(target_os = "linux"))]
    Some(0)
}

/// The sockets of a server that has bound this TCP address. `also_ipv4`: it is an address of IPv6 that answers to IPv4,
/// too. Empty if no client takes a Unix socket in place of the address.
///
/// # Errors
///
/// Why there is no directory for them.
pub fn of_server(bound: SocketAddr, also_ipv4: bool) -> io::Result<Vec<PathBuf>> {
    let is_local = bound.ip().is_loopback() || bound.ip().is_unspecified();
    let Some(network) = network().filter(|_| is_local) else {
        return Ok(Vec::new());
    };
    let mut refused = io::Error::from(ErrorKind::NotFound);
    for base in bases() {
        match base.make() {
            Ok(directory) => {
                let _ = remove_stale(&directory);
                let ipv4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), bound.port());
                let addresses = [bound].into_iter().chain(also_ipv4.then_some(ipv4));
                return Ok(addresses
                    .map(|address| name(&directory, network, address))
                    .collect());
            }
            Err(error) => {
                tracing::debug!(%base, %error, "no place for a socket");
                refused = io::Error::new(error.kind(), format!("{base}: {error}"));
            }
        }
    }
    Err(refused)
}

/// The sockets at which a client may reach the server at a TCP address; empty if that is not a loopback address.
pub fn of_address(address: SocketAddr) -> Vec<PathBuf> {
    let Some(network) = network().filter(|_| address.ip().is_loopback()) else {
        return Vec::new();
    };
    let unspecified = match address.ip() {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let addresses = [address, SocketAddr::new(unspecified, address.port())];
    let directories = bases().into_iter().filter_map(|base| base.existing());
    directories
        .flat_map(|directory| addresses.map(|address| name(&directory, network, address)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn only_clients_of_the_same_address_share_a_socket() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let meets = |bound: &str, also_ipv4, called: &str| {
            let servers = of_server(address(bound), also_ipv4).unwrap();
            let clients = of_address(address(called));
            servers.iter().any(|server| clients.contains(server))
        };
        assert!(meets("127.0.0.1:7", false, "127.0.0.1:7"));
        assert!(meets("0.0.0.0:7", false, "127.0.0.3:7"));
        assert!(meets("[::]:7", true, "127.0.0.1:7"));
        assert!(meets("[::]:7", true, "[::1]:7"));
        assert!(!meets("127.0.0.2:7", false, "127.0.0.1:7"));
        assert!(!meets("127.0.0.1:7", false, "127.0.0.1:8"));
        assert!(!meets("[::1]:7", false, "127.0.0.1:7"));
        assert!(!meets("[::]:7", false, "127.0.0.1:7"));
        assert!(!meets("10.0.0.5:7", false, "127.0.0.1:7"));
        assert!(!meets("127.0.0.1:7", false, "10.0.0.5:7"));
    }

    #[test]
    fn networks_do_not_share_sockets() {
        let address = "127.0.0.1:7".parse().unwrap();
        let directory = Path::new("/run");
        assert_ne!(name(directory, 1, address), name(directory, 2, address));
    }
}
