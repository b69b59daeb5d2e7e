//! An integer that is read and changed at once.

use crate::{Model, matching};

/// An atomic integer, as [`std::sync::atomic::AtomicI64`]; the value is the first one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Register(pub i64);

/// A method of [`Register`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterInput {
    /// Reads.
    Load,
    /// Writes.
    Store(i64),
    /// Writes, and reads what was there.
    Swap(i64),
    /// Adds, wrapping around, and reads what was there.
    FetchAdd(i64),
    /// Writes `new` if `current` is there.
    CompareExchange {
        /// What has to be there.
        current: i64,
        /// What is written.
        new: i64,
    },
}

/// A result of [`Register`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterOutput {
    /// Of `Store`.
    Done,
    /// What was there: of `Load`, `Swap` and `FetchAdd`.
    Value(i64),
    /// Of `CompareExchange`: what was there, `Ok` if it was replaced.
    Exchanged(Result<i64, i64>),
}

impl Model for Register {
    type State = i64;
    type Input = RegisterInput;
    type Output = RegisterOutput;

    fn init(&self) -> i64 {
        self.0
    }

    fn step(
        &self,
        &value: &i64,
        input: &RegisterInput,
        output: Option<&RegisterOutput>,
    ) -> Option<i64> {
        use RegisterOutput::{Done, Exchanged, Value};

        let next = match *input {
            RegisterInput::Load => (value, Value(value)),
            RegisterInput::Store(new) => (new, Done),
            RegisterInput::Swap(new) => (new, Value(value)),
            RegisterInput::FetchAdd(more) => (value.wrapping_add(more), Value(value)),
            RegisterInput::CompareExchange { current, new } if value == current => {
                (new, Exchanged(Ok(value)))
            }
            RegisterInput::CompareExchange { .. } => (value, Exchanged(Err(value))),
        };
        matching(next, output)
    }
}
