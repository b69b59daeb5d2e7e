//! Waiting for a number of events.

use crate::{Model, matching};

/// A latch: counts down from the first number to 0, at which all who wait go on, and stays there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latch(pub u64);

/// A method of [`Latch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatchInput {
    /// Counts down by 1; at 0 does nothing.
    CountDown,
    /// Waits for 0.
    Wait,
    /// Reads the count.
    Count,
}

/// A result of [`Latch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatchOutput {
    /// Of `CountDown` and `Wait`.
    Done,
    /// Of `Count`.
    Count(u64),
}

impl Model for Latch {
    type State = u64;
    type Input = LatchInput;
    type Output = LatchOutput;

    fn init(&self) -> u64 {
        self.0
    }

    fn step(&self, &count: &u64, input: &LatchInput, output: Option<&LatchOutput>) -> Option<u64> {
        let next = match input {
            LatchInput::CountDown => (count.saturating_sub(1), LatchOutput::Done),
            LatchInput::Wait if count > 0 => return None,
            LatchInput::Wait => (count, LatchOutput::Done),
            LatchInput::Count => (count, LatchOutput::Count(count)),
        };
        matching(next, output)
    }
}
