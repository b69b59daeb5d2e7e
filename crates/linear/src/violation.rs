//! Why a history is not linearizable.

use std::error::Error;
use std::fmt::{self, Debug, Display};

use crate::search::DeadEnd;
use crate::{History, Operation};

/// How many operations of an order are shown. Earlier ones are only counted.
const SHOWN_MAX: usize = 12;

/// Why a check did not succeed. `Debug` prints the same text as `Display`, for `unwrap` in tests.
pub enum Failure {
    /// The history is not linearizable.
    Violation(Box<Violation>),
    /// The limit of steps was reached before an order was found or all orders were tried.
    Undecided {
        /// The object, as `Debug` shows it.
        object: String,
        /// The number of operations on the object.
        operations: usize,
        /// The number of operations in the longest order that was found. If a higher limit does not increase this
        /// number, the history is most likely wrong near there.
        placed: usize,
        /// The limit of steps.
        steps_max: u64,
    },
}

impl Failure {
    /// The violation, if the history is not linearizable.
    pub fn violation(&self) -> Option<&Violation> {
        match self {
            Failure::Violation(violation) => Some(violation),
            Failure::Undecided { .. } => None,
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Violation(violation) => Display::fmt(violation, f),
            Failure::Undecided {
                object,
                operations,
                placed,
                steps_max,
            } => write!(
                f,
                "object {object}: undecided after {steps_max} steps; the longest order found has \
                 {placed} of {operations} operations"
            ),
        }
    }
}

impl Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl Error for Failure {}

/// An object whose operations have no valid order.
///
/// The violation describes the shortest prefix of the history that is not linearizable. The prefix ends at the
/// return of the [`culprit`](Violation::culprit), without which it is linearizable. Operations that return later
/// count as unanswered. Operations are given by their indexes in [`History::operations`].
pub struct Violation {
    object: String,
    culprit: Option<usize>,
    prefix: Vec<usize>,
    refused: Vec<usize>,
    text: String,
}

impl Violation {
    pub(crate) fn new<K: Debug, I: Debug, O: Debug, S: Debug>(
        history: &History<K, I, O>,
        part: &[(usize, &Operation<K, I, O>)],
        end: u64,
        dead_end: &DeadEnd<S>,
    ) -> Violation {
        let operations = history.operations();
        let culprit = part.iter().find(|(_, operation)| {
            let answer = operation.answer.as_ref();
            answer.is_some_and(|answer| answer.1 == end)
        });
        let mut violation = Violation {
            // The part is not empty: it contains at least the operations that could not be placed.
            object: part
                .first()
                .map(|(_, operation)| format!("{:?}", operation.object))
                .unwrap_or_default(),
            culprit: culprit.map(|&(index, _)| index),
            prefix: dead_end.prefix.clone(),
            refused: dead_end.refused.clone(),
            text: String::new(),
        };
        let text = violation.describe(operations, end, &dead_end.state);
        violation.text = text.unwrap_or_default();
        violation
    }

    /// The object, as `Debug` shows it.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// The operation whose return makes the prefix invalid. `None` if the checker's limit was too low to find it.
    pub fn culprit(&self) -> Option<usize> {
        self.culprit
    }

    /// The longest order that was found, up to the culprit's return.
    pub fn prefix(&self) -> &[usize] {
        &self.prefix
    }

    /// The operations that could follow [`prefix`](Violation::prefix) by their times, and cannot by their outputs.
    pub fn refused(&self) -> &[usize] {
        &self.refused
    }

    fn describe<K, I: Debug, O: Debug, S: Debug>(
        &self,
        operations: &[Operation<K, I, O>],
        end: u64,
        state: &S,
    ) -> Result<String, fmt::Error> {
        use fmt::Write;

        let mut text = String::new();
        writeln!(text, "object {} is not linearizable", self.object)?;
        if let Some(culprit) = self.culprit {
            writeln!(text, "up to the return of\n  {}", operations[culprit])?;
        }
        writeln!(text, "the longest order found, [call, return]:")?;
        let hidden = self.prefix.len().saturating_sub(SHOWN_MAX);
        if hidden > 0 {
            writeln!(text, "  ({hidden} operations)")?;
        }
        for &index in &self.prefix[hidden..] {
            let operation = &operations[index];
            let answer = operation.answer.as_ref();
            let running = answer.is_some_and(|answer| answer.1 > end);
            let remark = if running { "  (still running)" } else { "" };
            writeln!(text, "  {operation}{remark}")?;
        }
        writeln!(text, "leads to the state\n  {state:?}")?;
        write!(text, "in which none of these is possible:")?;
        for &index in &self.refused {
            write!(text, "\n  {}", operations[index])?;
        }
        Ok(text)
    }
}

impl Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Debug for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl Error for Violation {}
