//! Settings.

use std::ffi::OsString;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Once;
use std::time::Duration;

use crucial_object::{Error, Result, RunId};
use crucial_platform::worker;
use crucial_proto::Endpoints;
use crucial_proto::frame::REPLICAS_MAX;
use serde::{Deserialize, Serialize};

use crate::modules::{check_named, program_modules};
use crate::{environment, output};

/// The settings of a program.
///
/// Without any settings a program has an embedded server and local workers. Each setting has an environment variable,
/// so that the same program can be run elsewhere; a program that chooses its settings itself gives them to
/// [`init`](crate::runtime::init).
///
/// ```
/// use crucial::{Config, PlatformKind};
///
/// let mut config = Config::from_env()?;
/// config.platform = Some(PlatformKind::InProcess);
/// crucial::init(config)?;
/// # Ok::<(), crucial::Error>(())
/// ```
///
/// A program's settings hold for its cloud threads as well, and for the threads that these start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Config {
    /// `CRUCIAL_CLUSTER`: the server to use, `HOST:PORT` or `unix:PATH`. For a cluster, any of its servers, or several,
    /// separated by commas. Unset: a server embedded in this program.
    // Travels on its own: a worker is told the server that the program has, also an embedded one.
    #[serde(skip)]
    pub cluster: Option<Endpoints>,
    /// `CRUCIAL_NAMESPACE`: the namespace of persistent objects. `default` by default.
    pub namespace: String,
    /// `CRUCIAL_REPLICAS`: the number of servers of a cluster that hold an object, unless its builder says otherwise.
    /// Unset (0): 1 for an object that belongs to a run, 2 for a persistent object.
    pub replicas: u8,
    /// `CRUCIAL_RUN`: an existing run (its 32-digit id) to join, whose ephemeral objects this program
    /// then sees. Unset: a run of its own.
    pub run: Option<RunId>,
    /// `CRUCIAL_PLATFORM`: `local` (worker processes) or `in-process`. Unset: worker processes where `main` is
    /// `#[crucial::main]`, which makes an executable its own worker; elsewhere, as in unit tests, in-process, and a line on
    /// standard error says so.
    pub platform: Option<PlatformKind>,
    /// `CRUCIAL_CONCURRENCY`: how many cloud threads run at the same time, those that cloud threads have started included;
    /// further threads queue. 1000 by default, as on Lambda. Threads that wait for each other need to run at the same
    /// time.
    pub concurrency_max: usize,
    /// `CRUCIAL_MEMORY_MB`: the memory limit of a cloud thread, unless its builder says otherwise. At least 32.
    pub memory_mb: u32,
    /// `CRUCIAL_TIME_LIMIT_S`: the time limit of a cloud thread, unless its builder says otherwise. 900 s by default, as
    /// on Lambda.
    pub time_limit: Duration,
    /// `CRUCIAL_LEASE_MS`: the embedded server ends the session of a client that is silent for this long.
    pub lease: Duration,
    /// `CRUCIAL_PATIENCE_S`: how long calls wait for a server that cannot be reached, before they fail. (Cloud threads that
    /// call nothing go on: their results do not come by way of the server.)
    pub patience: Duration,
    /// `CRUCIAL_SPIN_US`: how long a thread that waits for a reply, and an event loop of the embedded server, spin before
    /// they sleep, where spinning has paid off lately. 50 µs by default; 0: never.
    pub spin: Duration,
}

/// The place where cloud threads run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PlatformKind {
    /// In worker processes of this executable, on this machine.
    Local,
    /// On threads of this process, through the same serialization: for tests and debuggers.
    InProcess,
}

/// The memory with which Lambda gives a function one whole virtual CPU.
const MEMORY_MB: u32 = 1769;

/// The least memory with which a worker runs: with less its own threads do not start.
pub(crate) const MEMORY_MB_MIN: u32 = 32;

/// More cloud threads at once than any platform runs.
const CONCURRENCY_MAX: u64 = 1_000_000;

/// A hundred years: for ever, in a number that can be added to the time.
const SECONDS_MAX: u64 = 100 * 365 * 24 * 3600;

/// A day. A server keeps what a client holds for this long after the client's death.
const LEASE_MS_MAX: u64 = 24 * 3600 * 1000;

/// A second.
const SPIN_US_MAX: u64 = 1_000_000;

impl Default for Config {
    fn default() -> Self {
        Config {
            cluster: None,
            namespace: "default".to_owned(),
            replicas: 0,
            run: None,
            platform: None,
            concurrency_max: 1000,
            memory_mb: MEMORY_MB,
            time_limit: Duration::from_secs(900),
            lease: Duration::from_secs(10),
            patience: Duration::from_secs(30),
            spin: Duration::from_micros(50),
        }
    }
}

impl Config {
    /// Reads the settings from the environment.
    ///
    /// # Errors
    ///
    /// [`Error::Config`], which names the variable and says what is expected.
    pub fn from_env() -> Result<Config> {
        let config = Config::read(|name| std::env::var_os(name))?;
        check_named()?;
        // One process says it, and not each worker.
        if !worker::is_worker() {
            static SAID: Once = Once::new();
            SAID.call_once(environment::note_unknown);
        }
        Ok(config)
    }

    /// How long threads spin. With a single core, spinning only takes time from the thread that is waited for.
    pub(crate) fn effective_spin(&self) -> Duration {
        match std::thread::available_parallelism() {
            Ok(cores) if cores.get() > 1 => self.spin,
            _ => Duration::ZERO,
        }
    }

    /// The settings of a session at these servers.
    pub(crate) fn client(&self, servers: &Endpoints) -> crucial_client::Config {
        let mut client = crucial_client::Config::new(servers.first().clone());
        client.seeds = servers.others().to_vec();
        client.modules = Some(program_modules);
        client.namespace.clone_from(&self.namespace);
        client.replicas = self.replicas;
        client.patience = self.patience;
        client.spin = self.effective_spin();
        // One process says it, and not each worker.
        client.tell = (!worker::is_worker()).then_some(|text| output::note(format_args!("{text}")));
        if let Some(run) = self.run {
            client.run = run;
            client.owner = false;
        }
        client
    }

    fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Config> {
        let mut config = Config::default();
        let get = |name: &'static str| -> Result<Option<Variable>> {
            let value = variable(name).filter(|value| !value.is_empty());
            let value = value.map(|value| {
                value.into_string().map_err(|value| Error::Config {
                    detail: format!("{name}={value:?}: it is not UTF-8"),
                })
            });
            Ok(value.transpose()?.map(|value| Variable { name, value }))
        };
        if let Some(v) = get("CRUCIAL_CLUSTER")? {
            config.cluster = Some(v.parsed()?);
        }
        if let Some(v) = get("CRUCIAL_NAMESPACE")? {
            config.namespace = v.value;
        }
        if let Some(v) = get("CRUCIAL_REPLICAS")? {
            config.replicas = v.number(1..=REPLICAS_MAX.into())? as u8;
        }
        if let Some(v) = get("CRUCIAL_RUN")? {
            config.run = Some(v.parsed()?);
        }
        if let Some(v) = get("CRUCIAL_PLATFORM")? {
            config.platform = match v.value.as_str() {
                "local" => Some(PlatformKind::Local),
                "in-process" => Some(PlatformKind::InProcess),
                _ => return Err(v.bad(&"`local` or `in-process` is expected")),
            };
        }
        if let Some(v) = get("CRUCIAL_CONCURRENCY")? {
            config.concurrency_max = v.number(1..=CONCURRENCY_MAX)? as usize;
        }
        if let Some(v) = get("CRUCIAL_MEMORY_MB")? {
            config.memory_mb = v.number(MEMORY_MB_MIN.into()..=u32::MAX.into())? as u32;
        }
        if let Some(v) = get("CRUCIAL_TIME_LIMIT_S")? {
            config.time_limit = Duration::from_secs(v.number(1..=SECONDS_MAX)?);
        }
        if let Some(v) = get("CRUCIAL_LEASE_MS")? {
            config.lease = Duration::from_millis(v.number(100..=LEASE_MS_MAX)?);
        }
        if let Some(v) = get("CRUCIAL_PATIENCE_S")? {
            config.patience = Duration::from_secs(v.number(0..=SECONDS_MAX)?);
        }
        if let Some(v) = get("CRUCIAL_SPIN_US")? {
            config.spin = Duration::from_micros(v.number(0..=SPIN_US_MAX)?);
        }
        Ok(config)
    }
}

/// A whole number in a range, from a variable or an option.
///
/// # Errors
///
/// The expected range.
pub fn whole_number<N>(text: &str, range: &RangeInclusive<N>) -> Result<N, String>
where
    N: FromStr + PartialOrd + Display,
{
    match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => {
            let (least, most) = (range.start(), range.end());
            Err(format!("a whole number from {least} to {most} is expected"))
        }
    }
}

struct Variable {
    name: &'static str,
    value: String,
}

impl Variable {
    fn number(&self, range: RangeInclusive<u64>) -> Result<u64> {
        whole_number(&self.value, &range).map_err(|why| self.bad(&why))
    }

    /// The value of a type whose errors name it.
    fn parsed<T: FromStr<Err = Error>>(&self) -> Result<T> {
        self.value.parse().map_err(|error: Error| Error::Config {
            detail: format!("{}: {error}", self.name),
        })
    }

    fn bad(&self, why: &dyn Display) -> Error {
        Error::Config {
            detail: format!("{}={:?}: {why}", self.name, self.value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> Result<Config> {
        Config::read(|requested| (requested == name).then(|| value.into()))
    }

    #[test]
    fn every_variable_has_an_effect() {
        let settings = [
            ("CRUCIAL_CLUSTER", "localhost:7171,localhost:7172"),
            ("CRUCIAL_NAMESPACE", "mine"),
            ("CRUCIAL_REPLICAS", "2"),
            ("CRUCIAL_RUN", "000102030405060708090a0b0c0d0e0f"),
            ("CRUCIAL_PLATFORM", "in-process"),
            ("CRUCIAL_CONCURRENCY", "7"),
            ("CRUCIAL_MEMORY_MB", "128"),
            ("CRUCIAL_TIME_LIMIT_S", "5"),
            ("CRUCIAL_LEASE_MS", "500"),
            ("CRUCIAL_PATIENCE_S", "1"),
            ("CRUCIAL_SPIN_US", "0"),
        ];
        for (name, value) in settings {
            assert_ne!(with(name, value).unwrap(), Config::default(), "{name}");
            assert_eq!(with(name, "").unwrap(), Config::default(), "{name}");
        }
    }

    #[test]
    fn a_value_that_is_no_text_is_not_taken_for_none() {
        use std::os::unix::ffi::OsStringExt;
        for name in ["CRUCIAL_NAMESPACE", "CRUCIAL_CLUSTER", "CRUCIAL_RUN"] {
            let value = OsString::from_vec(b"caf\xe9".to_vec());
            let read = Config::read(|requested| (requested == name).then(|| value.clone()));
            let error = read.unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("UTF-8"), "{error}");
        }
    }

    #[test]
    fn a_bad_value_is_named() {
        let wrong = [
            ("CRUCIAL_CLUSTER", "nowhere", "HOST:PORT"),
            ("CRUCIAL_REPLICAS", "300", "from 1 to 3"),
            ("CRUCIAL_REPLICAS", "9", "from 1 to 3"),
            ("CRUCIAL_REPLICAS", "0", "from 1 to 3"),
            ("CRUCIAL_RUN", "7", "32 hexadecimal digits"),
            ("CRUCIAL_PLATFORM", "moon", "in-process"),
            ("CRUCIAL_CONCURRENCY", "0", "from 1 to"),
            ("CRUCIAL_CONCURRENCY", "18446744073709551615", "to 1000000"),
            ("CRUCIAL_MEMORY_MB", "99999999999", "to 4294967295"),
            ("CRUCIAL_MEMORY_MB", "-1", "from 32 to"),
            ("CRUCIAL_MEMORY_MB", "31", "from 32 to"),
            (
                "CRUCIAL_TIME_LIMIT_S",
                "18446744073709551615",
                "to 3153600000",
            ),
            ("CRUCIAL_TIME_LIMIT_S", "1.5", "a whole number"),
            (
                "CRUCIAL_PATIENCE_S",
                "18446744073709551615",
                "to 3153600000",
            ),
            ("CRUCIAL_LEASE_MS", "soon", "from 100 to 86400000"),
            ("CRUCIAL_LEASE_MS", "99", "from 100 to"),
            ("CRUCIAL_SPIN_US", "1e3", "to 1000000"),
        ];
        for (name, value, expected) in wrong {
            let error = with(name, value).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(value), "{error}");
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("onfig"), "{error}");
        }
    }
}
