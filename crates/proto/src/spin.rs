//! Whether it pays to spin before sleeping.

/// Decides before each sleep whether to spin for a moment first: a wake-up across cores costs some
/// 40 µs, and a message that arrives while the receiver spins costs none of it.
///
/// It watches its own luck. Spins that find something keep it spinning; spins in vain make it sleep at
/// once for a while, twice as long each time, so that it costs next to nothing where messages are rare
/// or cores scarce.
#[derive(Debug, Default)]
pub struct SpinPolicy {
    /// Sleeps to go before the next try.
    pause: u32,
    /// Length of the next pause.
    backoff: u32,
}

/// The longest pause, in sleeps.
const PAUSE_MAX: u32 = 256;

impl SpinPolicy {
    /// Whether to spin before the sleep that comes.
    pub fn should_spin(&mut self) -> bool {
        if self.pause == 0 {
            return true;
        }
        self.pause -= 1;
        false
    }

    /// Tells how a spin ended.
    pub fn spun(&mut self, found: bool) {
        if found {
            self.backoff /= 2;
        } else {
            self.backoff = (2 * self.backoff).clamp(1, PAUSE_MAX);
            self.pause = self.backoff;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spins_in_vain_become_rare_and_luck_brings_them_back() {
        let mut policy = SpinPolicy::default();
        let mut vain = 0;
        for _ in 0..10_000 {
            if policy.should_spin() {
                policy.spun(false);
                vain += 1;
            }
        }
        assert!(vain < 60, "{vain}");
        let mut lucky = 0;
        for _ in 0..10_000 {
            if policy.should_spin() {
                policy.spun(true);
                lucky += 1;
            }
        }
        assert!(lucky > 9_000, "{lucky}");
    }
}
