//! A latch, which waits for a number of events.

use crate::{Model, matching};

/// A latch: counts down from the initial number to 0, which releases all waiting calls, and stays at 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latch(pub u64);

/// A method of [`Latch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatchInput {
    /// Decreases the count by 1, unless it is 0.
    CountDown,
    /// Waits until the count is 0.
    Wait,
    /// Reads the count.
    Count,
}

/// A result of [`Latch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatchOutput {
    /// The result of `CountDown` and `Wait`.
    Done,
    /// The result of `Count`.
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
