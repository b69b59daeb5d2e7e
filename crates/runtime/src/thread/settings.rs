//! How a cloud thread runs.

use std::ffi::OsString;
use std::time::Duration;

/// How often an exactly-once thread is retried, unless its builder says otherwise.
const EXACTLY_ONCE_RETRIES: u32 = 3;

/// The settings of a cloud thread but for its name.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub retries: Option<u32>,
    pub exactly_once: bool,
    pub retry_delay: Duration,
    pub time_limit: Option<Duration>,
    pub memory_mb: Option<u32>,
    /// Variables of the thread's environment.
    pub env: Vec<(OsString, OsString)>,
}

impl Settings {
    /// How often the thread is started again, at most.
    pub fn retries_max(&self) -> u32 {
        let default = if self.exactly_once {
            EXACTLY_ONCE_RETRIES
        } else {
            0
        };
        self.retries.unwrap_or(default)
    }
}
