//! The hosts of servers: this machine's loopback, or for each server a network namespace with an address of its own, which
//! can be cut off from chosen others.

use std::net::TcpListener;
use std::ops::Range;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Result, io};

/// The addresses of namespaces begin with this.
const PREFIX: &str = "10.177.7";

/// The bridge between the namespaces.
const BRIDGE: &str = "crucialbr0";

/// The port of a server in a namespace.
const PORT: u16 = 7171;

/// Ports on loopback, below those that the system gives to outgoing connections: such a connection could take the port of
/// a server that is being restarted.
const PORTS: Range<u16> = 10_000..30_000;

/// Hosts for servers.
#[derive(Debug)]
pub enum Net {
    /// All on 127.0.0.1, each with a port of its own. No host can be cut off.
    Loopback,
    /// Each in a namespace, with a virtual cable to a bridge. The namespaces are removed when this value is dropped.
    Namespaces {
        /// The number of namespaces.
        count: u8,
    },
}

fn ip(arguments: &str) -> bool {
    Command::new("ip")
        .args(arguments.split(' '))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn name(host: u8) -> String {
    format!("crucial{host}")
}

fn address(host: u8) -> String {
    format!("{PREFIX}.{}", host + 10)
}

/// A free port, which stays free while its server is being restarted.
fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(101);
    let mut last = None;
    for _ in PORTS {
        let turn = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + (turn % PORTS.len() as u32) as u16;
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = Some(error),
        }
    }
    let none = std::io::Error::other("no port is free");
    Err(io("a free port")(last.unwrap_or(none)))
}

impl Net {
    /// Namespaces if this process may create them (as root, with iproute2), loopback otherwise.
    pub fn best(hosts: u8) -> Net {
        Net::namespaces(hosts).unwrap_or(Net::Loopback)
    }

    /// Namespaces; `None` if this process may not create them.
    pub fn namespaces(count: u8) -> Option<Net> {
        // An earlier run that was killed may have left namespaces behind.
        remove(count);
        let net = Net::Namespaces { count };
        let bridge = ip(&format!("link add {BRIDGE} type bridge"))
            && ip(&format!("addr add {PREFIX}.1/24 dev {BRIDGE}"))
            && ip(&format!("link set {BRIDGE} up"));
        let hosts = bridge && (0..count).all(add);
        // Dropping `net` after a failure removes the namespaces that were created.
        hosts.then_some(net)
    }

    /// Whether hosts can be cut off.
    pub fn can_cut(&self) -> bool {
        matches!(self, Net::Namespaces { .. })
    }

    /// An address for the server of a host.
    pub(crate) fn listen(&self, host: u8) -> Result<String> {
        match self {
            Net::Loopback => Ok(format!("127.0.0.1:{}", free_port()?)),
            Net::Namespaces { .. } => Ok(format!("{}:{PORT}", address(host))),
        }
    }

    /// A command that runs a program at a host.
    pub(crate) fn command(&self, host: u8, program: &std::path::Path) -> Command {
        match self {
            Net::Loopback => Command::new(program),
            Net::Namespaces { .. } => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &name(host)]).arg(program);
                command
            }
        }
    }

    /// Drops all packets from `from` to `to` from now on. Packets from `to` still arrive, but without acknowledgements no
    /// connection works in either direction.
    pub fn cut(&self, from: u8, to: u8) {
        if self.can_cut() {
            ip(&format!(
                "-n {} route add blackhole {}/32",
                name(from),
                address(to)
            ));
        }
    }

    /// Ends what [`cut`](Net::cut) did.
    pub fn mend(&self, from: u8, to: u8) {
        if self.can_cut() {
            ip(&format!(
                "-n {} route del blackhole {}/32",
                name(from),
                address(to)
            ));
        }
    }

    /// Disconnects a host from all others, including clients.
    pub fn unplug(&self, host: u8) {
        if self.can_cut() {
            ip(&format!("link set crucialv{host} down"));
        }
    }

    /// Ends what [`unplug`](Net::unplug) did.
    pub fn plug(&self, host: u8) {
        if self.can_cut() {
            ip(&format!("link set crucialv{host} up"));
        }
    }
}

fn add(host: u8) -> bool {
    let (name, address) = (name(host), address(host));
    ip(&format!("netns add {name}"))
        && ip(&format!(
            "link add crucialv{host} type veth peer name eth0 netns {name}"
        ))
        && ip(&format!("link set crucialv{host} master {BRIDGE} up"))
        && ip(&format!("-n {name} addr add {address}/24 dev eth0"))
        && ip(&format!("-n {name} link set eth0 up"))
        && ip(&format!("-n {name} link set lo up"))
}

fn remove(count: u8) {
    for host in 0..count {
        ip(&format!("link del crucialv{host}"));
        ip(&format!("netns del {}", name(host)));
    }
    ip(&format!("link del {BRIDGE}"));
}

impl Drop for Net {
    fn drop(&mut self) {
        if let Net::Namespaces { count } = self {
            remove(*count);
        }
    }
}
