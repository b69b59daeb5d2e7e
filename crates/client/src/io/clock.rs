//! The clock of a client.

use rustix::time::{ClockId, clock_gettime};

/// Counts from its start, and never back.
///
/// On Linux it goes on while the machine is suspended, as those of the servers do meanwhile: a client that wakes up must
/// not send calls again whose results the servers have dropped.
pub(crate) struct Clock {
    started_ms: u64,
}

impl Clock {
    pub fn new() -> Clock {
        Clock {
            started_ms: up_ms(),
        }
    }

    pub fn now_ms(&self) -> u64 {
        up_ms().saturating_sub(self.started_ms)
    }
}

/// Of the machine.
fn up_ms() -> u64 {
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    let up = clock_gettime(clock);
    up.tv_sec as u64 * 1000 + up.tv_nsec as u64 / 1_000_000
}
