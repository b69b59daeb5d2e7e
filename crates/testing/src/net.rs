//! The hosts of servers: this machine's loopback, or for each server a network namespace with an address of its own, which
//! can be cut off from chosen others.

use std::net::TcpListener;
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Result, io};

/// The addresses of namespaces begin with this, and the number of their subnet.
const PREFIX: &str = "10.177";

/// The first subnet, and how many there are: tests that run at the same time each take one.
const SUBNETS: Range<u8> = 7..39;

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
        /// Their subnet, which no other test of this machine has.
        subnet: Subnet,
    },
}

/// A subnet, which is this process's until the value is dropped or the process ends.
#[derive(Debug)]
pub struct Subnet {
    number: u8,
    /// A socket of a name that only one process can have.
    _claim: UnixListener,
}

/// What a slow link does to the packets in one direction.
#[derive(Clone, Copy, Debug)]
pub struct Slow {
    /// The rate, in thousands of bits in a second.
    pub rate_kbit: u32,
    /// The longest time that a packet waits for its turn before it is dropped, in milliseconds.
    pub queue_ms: u32,
    /// The time by which each packet is delayed, in milliseconds; without effect where
    /// [`can_delay`](Net::can_delay) is false.
    pub delay_ms: u32,
}

fn ip(arguments: &str) -> bool {
    run("ip", arguments)
}

fn tc(arguments: &str) -> bool {
    run("tc", arguments)
}

fn run(program: &str, arguments: &str) -> bool {
    Command::new(program)
        .args(arguments.split(' '))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

impl Subnet {
    /// A subnet that no other process has.
    fn claim() -> Option<Subnet> {
        SUBNETS.into_iter().find_map(|number| {
            // The names of such sockets belong to the same network namespace as bridges do, and end with the process.
            let name = SocketAddr::from_abstract_name(format!("crucial-subnet-{number}"));
            let claim = UnixListener::bind_addr(&name.ok()?).ok()?;
            Some(Subnet {
                number,
                _claim: claim,
            })
        })
    }

    /// The bridge between the namespaces.
    fn bridge(&self) -> String {
        format!("crucialbr{}", self.number)
    }

    /// The namespace of a host.
    fn name(&self, host: u8) -> String {
        format!("crucial{}h{host}", self.number)
    }

    /// The end of a host's virtual cable that is at the bridge.
    fn cable(&self, host: u8) -> String {
        format!("crucial{}v{host}", self.number)
    }

    fn address(&self, host: u8) -> String {
        format!("{PREFIX}.{}.{}", self.number, host + 10)
    }

    /// Both ends of a host's cable, for `tc`: the option that names the namespace, and the device.
    fn ends(&self, host: u8) -> [(String, String); 2] {
        [
            (String::new(), self.cable(host)),
            (format!("-n {} ", self.name(host)), "eth0".to_owned()),
        ]
    }

    fn add_bridge(&self) -> bool {
        let bridge = self.bridge();
        ip(&format!("link add {bridge} type bridge"))
            && ip(&format!(
                "addr add {PREFIX}.{}.1/24 dev {bridge}",
                self.number
            ))
            && ip(&format!("link set {bridge} up"))
    }

    fn add(&self, host: u8) -> bool {
        let (name, address) = (self.name(host), self.address(host));
        let (cable, bridge) = (self.cable(host), self.bridge());
        ip(&format!("netns add {name}"))
            && ip(&format!(
                "link add {cable} type veth peer name eth0 netns {name}"
            ))
            && ip(&format!("link set {cable} master {bridge} up"))
            && ip(&format!("-n {name} addr add {address}/24 dev eth0"))
            && ip(&format!("-n {name} link set eth0 up"))
            && ip(&format!("-n {name} link set lo up"))
    }

    fn remove(&self, count: u8) {
        for host in 0..count {
            ip(&format!("link del {}", self.cable(host)));
            ip(&format!("netns del {}", self.name(host)));
        }
        ip(&format!("link del {}", self.bridge()));
    }
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
        let subnet = Subnet::claim()?;
        // An earlier run that was killed may have left namespaces behind.
        subnet.remove(count);
        let hosts = subnet.add_bridge() && (0..count).all(|host| subnet.add(host));
        // Dropping `net` after a failure removes the namespaces that were created.
        let net = Net::Namespaces { count, subnet };
        hosts.then_some(net)
    }

    /// What this is and what it can do, for a test's first line.
    pub fn describe(&self) -> String {
        match (self.can_slow(), self.can_delay()) {
            _ if !self.can_cut() => {
                "loopback: no host can be cut off, and no link is slow".to_owned()
            }
            (true, true) => "network namespaces, with slow and delayed links".to_owned(),
            (true, false) => "network namespaces, with slow links; packets are delayed by queues \
                              only: the kernel has no sch_netem"
                .to_owned(),
            (false, _) => {
                "network namespaces; no link is slow: tc or the kernel's sch_tbf is missing"
                    .to_owned()
            }
        }
    }

    /// Whether hosts can be cut off.
    pub fn can_cut(&self) -> bool {
        matches!(self, Net::Namespaces { .. })
    }

    /// An address for the server of a host.
    pub(crate) fn listen(&self, host: u8) -> Result<String> {
        match self {
            Net::Loopback => Ok(format!("127.0.0.1:{}", free_port()?)),
            Net::Namespaces { subnet, .. } => Ok(format!("{}:{PORT}", subnet.address(host))),
        }
    }

    /// A command that runs a program at a host.
    pub(crate) fn command(&self, host: u8, program: &std::path::Path) -> Command {
        match self {
            Net::Loopback => Command::new(program),
            Net::Namespaces { subnet, .. } => {
                let mut command = Command::new("ip");
                command
                    .args(["netns", "exec", &subnet.name(host)])
                    .arg(program);
                command
            }
        }
    }

    /// Drops all packets from `from` to `to` from now on. Packets from `to` still arrive, but without acknowledgements no
    /// connection works in either direction.
    pub fn cut(&self, from: u8, to: u8) {
        self.route("add", from, to);
    }

    /// Ends what [`cut`](Net::cut) did.
    pub fn mend(&self, from: u8, to: u8) {
        self.route("del", from, to);
    }

    fn route(&self, what: &str, from: u8, to: u8) {
        if let Net::Namespaces { subnet, .. } = self {
            ip(&format!(
                "-n {} route {what} blackhole {}/32",
                subnet.name(from),
                subnet.address(to)
            ));
        }
    }

    /// Disconnects a host from all others, including clients.
    pub fn unplug(&self, host: u8) {
        self.set_link(host, "down");
    }

    /// Ends what [`unplug`](Net::unplug) did.
    pub fn plug(&self, host: u8) {
        self.set_link(host, "up");
    }

    fn set_link(&self, host: u8, state: &str) {
        if let Net::Namespaces { subnet, .. } = self {
            ip(&format!("link set {} {state}", subnet.cable(host)));
        }
    }

    /// Whether packets can be delayed: the kernel has `sch_netem`.
    pub fn can_delay(&self) -> bool {
        let Net::Namespaces { subnet, .. } = self else {
            return false;
        };
        let name = subnet.name(0);
        tc(&format!("-n {name} qdisc add dev lo root netem delay 1ms"))
            && tc(&format!("-n {name} qdisc del dev lo root"))
    }

    /// Whether links can be made slow: the kernel has `sch_tbf`.
    pub fn can_slow(&self) -> bool {
        let slow = Slow {
            rate_kbit: 1_000_000,
            queue_ms: 100,
            delay_ms: 0,
        };
        let can = self.slow(0, &slow);
        self.hasten(0);
        can
    }

    /// Makes a host's link slow in both directions, and returns whether that was possible.
    pub fn slow(&self, host: u8, slow: &Slow) -> bool {
        let Net::Namespaces { subnet, .. } = self else {
            return false;
        };
        let Slow {
            rate_kbit,
            queue_ms,
            delay_ms,
        } = slow;
        // Large enough for a packet as virtual cables pass it on, of 64 KiB.
        let rate =
            format!("root handle 1: tbf rate {rate_kbit}kbit burst 192k latency {queue_ms}ms");
        let delay = format!(
            "parent 1:1 handle 10: netem delay {delay_ms}ms {}ms",
            delay_ms / 4
        );
        let is_slow = |(namespace, device): (String, String)| {
            let add = |what: &str| tc(&format!("{namespace}qdisc add dev {device} {what}"));
            add(&rate) && (*delay_ms == 0 || !self.can_delay() || add(&delay))
        };
        subnet.ends(host).into_iter().all(is_slow)
    }

    /// Ends what [`slow`](Net::slow) did.
    pub fn hasten(&self, host: u8) {
        if let Net::Namespaces { subnet, .. } = self {
            for (namespace, device) in subnet.ends(host) {
                tc(&format!("{namespace}qdisc del dev {device} root"));
            }
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if let Net::Namespaces { count, subnet } = self {
            subnet.remove(*count);
        }
    }
}
