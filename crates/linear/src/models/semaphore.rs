//! A counting semaphore.

use crate::{Model, matching};

/// A counting semaphore.
#[derive(Clone, Copy, Debug, Default)]
pub struct Semaphore {
    /// The initial number of permits.
    pub permits: u64,
    /// Whether `TryAcquire` may fail although enough permits are available, as on a fair semaphore while another
    /// call waits for more permits.
    pub try_may_fail: bool,
}

/// A method of [`Semaphore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SemaphoreInput {
    /// Acquires this number of permits; waits until they are available.
    Acquire(u64),
    /// Acquires this number of permits if they are available.
    TryAcquire(u64),
    /// Releases this number of permits.
    Release(u64),
    /// Reads the number of available permits.
    Available,
}

/// A result of [`Semaphore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SemaphoreOutput {
    /// The result of `Acquire` and `Release`.
    Done,
    /// The result of `TryAcquire`: whether the permits were acquired.
    Acquired(bool),
    /// The result of `Available`.
    Permits(u64),
}

impl Model for Semaphore {
    type State = u64;
    type Input = SemaphoreInput;
    type Output = SemaphoreOutput;

    fn init(&self) -> u64 {
        self.permits
    }

    fn step(
        &self,
        &permits: &u64,
        input: &SemaphoreInput,
        output: Option<&SemaphoreOutput>,
    ) -> Option<u64> {
        use SemaphoreOutput::{Acquired, Done, Permits};

        let next = match *input {
            SemaphoreInput::Acquire(count) => (permits.checked_sub(count)?, Done),
            SemaphoreInput::TryAcquire(_)
                if self.try_may_fail && output == Some(&Acquired(false)) =>
            {
                return Some(permits);
            }
            SemaphoreInput::TryAcquire(count) => match permits.checked_sub(count) {
                Some(rest) => (rest, Acquired(true)),
                None => (permits, Acquired(false)),
            },
            SemaphoreInput::Release(count) => (permits.checked_add(count)?, Done),
            SemaphoreInput::Available => (permits, Permits(permits)),
        };
        matching(next, output)
    }
}
