//! What a user is told of a server that does not answer.

use std::time::{Duration, Instant};

use crate::Config;

/// How long a server does not answer before that is said.
const QUIET_MAX: Duration = Duration::from_secs(2);

/// The time in which a server cannot be reached.
pub(super) struct Outage {
    since: Instant,
    is_said: bool,
    is_over: bool,
}

impl Outage {
    pub fn begin() -> Outage {
        Outage {
            since: Instant::now(),
            is_said: false,
            is_over: false,
        }
    }

    /// The server could not be reached once more.
    pub fn go_on(&mut self, config: &Config, failure: &str) {
        let took = self.since.elapsed();
        if self.is_said && !self.is_over && took >= config.patience {
            self.is_over = true;
            if let Some(tell) = config.tell {
                let took = took.as_secs_f64();
                tell(&format!(
                    "{failure}, for {took:.0} s: calls fail now; what calls nothing goes on"
                ));
            }
        }
        if self.is_said || took < QUIET_MAX {
            return;
        }
        self.is_said = true;
        if let Some(tell) = config.tell {
            let patience = config.patience.as_secs_f64();
            tell(&format!("{failure}; calls wait {patience} s at most"));
        }
    }

    /// The server has answered.
    pub fn end(&self, config: &Config, address: &str) {
        if let Some(tell) = config.tell.filter(|_| self.is_said) {
            let took = self.since.elapsed().as_secs_f64();
            tell(&format!(
                "the server at {address} answers, after {took:.1} s"
            ));
        }
    }
}
