//! Where a server is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crucial_object::Error;

/// Longest path of a Unix socket, in bytes: a limit of the operating system.
pub const UNIX_PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// The address of a server: `HOST:PORT`, or `unix:PATH` for a socket on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A TCP port. The host is a name or an address.
    Tcp {
        /// The host.
        host: String,
        /// The port; a listener on port 0 takes a free one.
        port: u16,
    },
    /// A Unix socket. A path that begins with `@` is the name of an abstract socket of Linux, which has no file.
    Unix(PathBuf),
}

/// Signs of other kinds of addresses.
const NO_HOST: [char; 6] = ['/', '@', '?', '#', '"', '\''];

impl Endpoint {
    /// The address of a server that others are to reach.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for port 0, which stands for a free port of a listener.
    pub fn reachable(self) -> Result<Endpoint, Error> {
        match self {
            Endpoint::Tcp { port: 0, .. } => Err(Error::Config {
                detail: format!(
                    "no server can be reached at {self}: port 0 is for --listen, and the server then says which port \
                     it has"
                ),
            }),
            endpoint => Ok(endpoint),
        }
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::Config {
            detail: format!(
                "{text:?} is no server address ({why}): HOST:PORT or unix:PATH is expected"
            ),
        };
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err(bad("the path is missing"));
            }
            if path.len() > UNIX_PATH_BYTES_MAX {
                let length = path.len();
                return Err(bad(&format!(
                    "the path has {length} bytes, and a socket's may have {UNIX_PATH_BYTES_MAX}"
                )));
            }
            return Ok(Endpoint::Unix(path.into()));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return Err(bad(&format!(
                "{scheme}:// is not part of it; perhaps {}",
                rest.trim_end_matches('/')
            )));
        }
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| bad("the port is missing"))?;
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        if bracketed.is_none() && host.contains(':') {
            return Err(bad("an IPv6 address needs brackets"));
        }
        let host = bracketed.unwrap_or(host);
        if host.is_empty() {
            return Err(bad("the host is missing"));
        }
        if let Some(sign) = host
            .chars()
            .find(|sign| NO_HOST.contains(sign) || sign.is_whitespace())
        {
            return Err(bad(&format!("no name of a host has the sign {sign:?}")));
        }
        Ok(Endpoint::Tcp {
            host: host.to_owned(),
            port: port
                .parse()
                .map_err(|_| bad("the port is no number below 65536"))?,
        })
    }
}

/// The addresses of servers of one cluster, or of one server: any of them will do. As text, with commas between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    first: Endpoint,
    others: Vec<Endpoint>,
}

impl Endpoints {
    /// Of these endpoints; `None` without any.
    pub fn new(endpoints: impl IntoIterator<Item = Endpoint>) -> Option<Endpoints> {
        let mut endpoints = endpoints.into_iter();
        let first = endpoints.next()?;
        let others = endpoints.collect();
        Some(Endpoints { first, others })
    }

    /// One of them.
    pub fn first(&self) -> &Endpoint {
        &self.first
    }

    /// The others.
    pub fn others(&self) -> &[Endpoint] {
        &self.others
    }
}

impl FromStr for Endpoints {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let endpoints = text
            .split(',')
            .map(|one| one.trim().parse::<Endpoint>()?.reachable());
        let endpoints: Vec<Endpoint> = endpoints.collect::<Result<_, _>>()?;
        Endpoints::new(endpoints).ok_or_else(|| Error::Config {
            detail: "the address of a server is expected".to_owned(),
        })
    }
}

impl From<Endpoint> for Endpoints {
    fn from(first: Endpoint) -> Self {
        let others = Vec::new();
        Endpoints { first, others }
    }
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        self.others
            .iter()
            .try_for_each(|other| write!(f, ",{other}"))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Endpoint::Tcp { host, port } => write!(f, "{host}:{port}"),
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_parses() {
        for text in [
            "localhost:80",
            "[::1]:7171",
            "unix:/run/crucial.sock",
            "unix:@crucial",
            "10.0.0.1:1",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "localhost",
            ":1",
            "host:99999",
            "::1",
            "::1:80",
            "unix:",
            "host:port",
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains("HOST:PORT"), "{error}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_to_write() {
        for (text, expected) in [
            ("http://localhost:7171", "perhaps localhost:7171"),
            ("tcp://10.0.0.1:7171/", "perhaps 10.0.0.1:7171"),
            ("me@host:7171", "'@'"),
            ("local host:7171", "' '"),
            ("localhost:0", "port 0 is for --listen"),
            ("localhost:1,localhost:0", "localhost:0"),
        ] {
            let error = text.parse::<Endpoints>().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        "localhost:0".parse::<Endpoint>().unwrap();
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused() {
        let path = |length| format!("unix:{}", "p".repeat(length)).parse::<Endpoint>();
        path(UNIX_PATH_BYTES_MAX).unwrap();
        let error = path(UNIX_PATH_BYTES_MAX + 1).unwrap_err().to_string();
        let limit = format!("may have {UNIX_PATH_BYTES_MAX}");
        assert!(error.contains(&limit), "{error}");
    }
}
