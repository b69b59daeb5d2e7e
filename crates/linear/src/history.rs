//! Recorded calls with their times and results.

use std::fmt::{self, Debug};

/// One call on one object.
///
/// Times are ticks of a counter that all processes share. An operation precedes another one if the tick of its
/// return is lower than the tick of the other's call; otherwise the two overlap. An operation that returned
/// before it was called makes a history invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<K, I, O> {
    /// The calling process. It is only shown: the order of a process's calls follows from their times.
    pub process: u64,
    /// The called object: each object's operations are checked separately.
    pub object: K,
    /// The method and its arguments.
    pub input: I,
    /// The tick just before the call.
    pub called: u64,
    /// The output and the tick just after the return; `None` if no answer arrived.
    pub answer: Option<(O, u64)>,
}

impl<K, I, O> Operation<K, I, O> {
    /// Returns an operation without an answer.
    pub fn called(process: u64, object: K, input: I, called: u64) -> Self {
        Operation {
            process,
            object,
            input,
            called,
            answer: None,
        }
    }

    /// Returns this operation with an answer.
    #[must_use]
    pub fn returned(mut self, output: O, returned: u64) -> Self {
        self.answer = Some((output, returned));
        self
    }
}

/// `[called, returned]  process p  input -> output`
impl<K, I: Debug, O: Debug> fmt::Display for Operation<K, I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operation {
            process,
            input,
            called,
            ..
        } = self;
        match &self.answer {
            Some((output, returned)) => write!(
                f,
                "[{called}, {returned}]  process {process}  {input:?} -> {output:?}"
            ),
            None => write!(f, "[{called}, ?]  process {process}  {input:?} -> ?"),
        }
    }
}

/// Operations, in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History<K, I, O> {
    operations: Vec<Operation<K, I, O>>,
}

impl<K, I, O> History<K, I, O> {
    /// Returns an empty history.
    pub const fn new() -> Self {
        History {
            operations: Vec::new(),
        }
    }

    /// Adds an operation.
    pub fn push(&mut self, operation: Operation<K, I, O>) {
        self.operations.push(operation);
    }

    /// The operations, in the order in which they were added.
    pub fn operations(&self) -> &[Operation<K, I, O>] {
        &self.operations
    }
}

impl<K, I, O> Default for History<K, I, O> {
    fn default() -> Self {
        History::new()
    }
}

impl<K, I, O> From<Vec<Operation<K, I, O>>> for History<K, I, O> {
    fn from(operations: Vec<Operation<K, I, O>>) -> Self {
        History { operations }
    }
}

impl<K, I, O> FromIterator<Operation<K, I, O>> for History<K, I, O> {
    fn from_iter<T: IntoIterator<Item = Operation<K, I, O>>>(operations: T) -> Self {
        Vec::from_iter(operations).into()
    }
}

impl<K, I, O> Extend<Operation<K, I, O>> for History<K, I, O> {
    fn extend<T: IntoIterator<Item = Operation<K, I, O>>>(&mut self, operations: T) {
        self.operations.extend(operations);
    }
}
