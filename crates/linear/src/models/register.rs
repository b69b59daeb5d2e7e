//! An atomic integer.

use crate::{Model, matching};

/// An atomic integer like [`std::sync::atomic::AtomicI64`], with this initial value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Register(pub i64);

/// A method of [`Register`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterInput {
    /// Reads the value.
    Load,
    /// Writes a value.
    Store(i64),
    /// Writes a value, and reads the previous one.
    Swap(i64),
    /// Adds a number, wrapping around, and reads the previous value.
    FetchAdd(i64),
    /// Writes `new` if the value is `current`.
    CompareExchange {
        /// The expected value.
        current: i64,
        /// The new value.
        new: i64,
    },
}

/// A result of [`Register`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterOutput {
    /// The result of `Store`.
    Done,
    /// The result of `Load`, `Swap` and `FetchAdd`: the previous value.
    Value(i64),
    /// The result of `CompareExchange`: the previous value, `Ok` if it was replaced.
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
