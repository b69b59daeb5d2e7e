//! First in, first out.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;

use crate::{Model, matching};

/// An unbounded queue, empty at first.
///
/// The order of two pushes that overlap shows only when the values come out, and until then the
/// checker has to follow both. Keep the queue short in tests: pop as often as you push.
#[derive(Clone, Copy, Debug)]
pub struct Queue<T>(PhantomData<T>);

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue(PhantomData)
    }
}

/// A method of [`Queue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueInput<T> {
    /// Puts a value at the end.
    Push(T),
    /// Takes the first value if there is one.
    TryPop,
    /// Takes the first value; waits until there is one.
    Pop,
}

/// A result of [`Queue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueOutput<T> {
    /// Of `Push`.
    Done,
    /// Of `Pop` and `TryPop`: what was taken.
    Popped(T),
    /// Of `TryPop`: there was nothing.
    Empty,
}

impl<T: Clone + Eq + Hash + Debug> Model for Queue<T> {
    type State = VecDeque<T>;
    type Input = QueueInput<T>;
    type Output = QueueOutput<T>;

    fn init(&self) -> VecDeque<T> {
        VecDeque::new()
    }

    fn step(
        &self,
        values: &VecDeque<T>,
        input: &QueueInput<T>,
        output: Option<&QueueOutput<T>>,
    ) -> Option<VecDeque<T>> {
        use QueueOutput::{Done, Empty, Popped};

        let result = match (input, values.front()) {
            (QueueInput::Push(_), _) => Done,
            (QueueInput::TryPop | QueueInput::Pop, Some(first)) => Popped(first.clone()),
            (QueueInput::TryPop, None) => Empty,
            (QueueInput::Pop, None) => return None,
        };
        // The values are copied only if the output is right: most steps that are tried are wrong.
        matching(((), result), output)?;
        let mut values = values.clone();
        match input {
            QueueInput::Push(value) => values.push_back(value.clone()),
            QueueInput::TryPop | QueueInput::Pop => drop(values.pop_front()),
        }
        Some(values)
    }
}
