//! A first-in-first-out queue.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;

use crate::{Model, matching};

/// An unbounded queue, initially empty.
///
/// The order of two overlapping pushes can be observed only when the values are popped; until then the checker has
/// to follow both orders. Keep the queue short in tests: pop as often as you push.
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
    /// Appends a value.
    Push(T),
    /// Removes the first value, if the queue is not empty.
    TryPop,
    /// Removes the first value; waits while the queue is empty.
    Pop,
}

/// A result of [`Queue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueOutput<T> {
    /// The result of `Push`.
    Done,
    /// The result of `Pop` and `TryPop`: the removed value.
    Popped(T),
    /// The result of `TryPop` if the queue was empty.
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
        // The values are copied only after the output matches, since most outputs that are tried do not.
        matching(((), result), output)?;
        let mut values = values.clone();
        match input {
            QueueInput::Push(value) => values.push_back(value.clone()),
            QueueInput::TryPop | QueueInput::Pop => drop(values.pop_front()),
        }
        Some(values)
    }
}
