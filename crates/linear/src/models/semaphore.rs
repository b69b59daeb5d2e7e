//! Permits that are taken and given back.

use crate::{Model, matching};

/// A counting semaphore.
#[derive(Clone, Copy, Debug, Default)]
pub struct Semaphore {
    /// The permits that are there at first.
    pub permits: u64,
    /// Whether `TryAcquire` may fail although there are permits enough, as it does on a fair
    /// semaphore when somebody waits for more of them.
    pub try_may_fail: bool,
}

/// A method of [`Semaphore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SemaphoreInput {
    /// Takes so many permits; waits until they are there.
    Acquire(u64),
    /// Takes so many permits if they are there.
    TryAcquire(u64),
    /// Gives so many permits.
    Release(u64),
    /// Reads how many permits are there.
    Available,
}

/// A result of [`Semaphore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SemaphoreOutput {
    /// Of `Acquire` and `Release`.
    Done,
    /// Of `TryAcquire`: whether they were taken.
    Acquired(bool),
    /// Of `Available`.
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
