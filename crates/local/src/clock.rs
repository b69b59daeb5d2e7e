//! The machine's clock.

/// Counts from its start, and never back.
///
/// On Linux it goes on while the machine is suspended, as those of other machines do meanwhile. Otherwise a server that
/// wakes up would take its lease for valid that has long ended for the others, and a client would repeat calls whose
/// results the servers have dropped.
#[derive(Debug)]
pub struct Clock {
    started_ms: u64,
}

impl Clock {
    /// A clock that stands at 0.
    #[expect(clippy::new_without_default, reason = "it reads the time")]
    pub fn new() -> Clock {
        Clock {
            started_ms: up_ms(),
        }
    }

    /// Milliseconds since its start.
    pub fn now_ms(&self) -> u64 {
        up_ms().saturating_sub(self.started_ms)
    }
}

/// Of the machine.
fn up_ms() -> u64 {
    use rustix::time::{ClockId, clock_gettime};
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    let up = clock_gettime(clock);
    up.tv_sec as u64 * 1000 + up.tv_nsec as u64 / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on() {
        let clock = Clock::new();
        let first = clock.now_ms();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let second = clock.now_ms();
        assert!(first < 1000 && second >= first + 19, "{first} {second}");
    }
}
