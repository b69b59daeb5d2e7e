//! Why a history is not linearizable.

use std::error::Error;
use std::fmt::{self, Debug, Display};

use crate::search::Stuck;
use crate::{History, Operation};

/// How many operations of an order are shown; those before are counted.
const SHOWN_MAX: usize = 12;

/// Why a check did not succeed. `Debug` is as readable as `Display`, for `unwrap` in tests.
pub enum Failure {
    /// The history is not linearizable.
    Violation(Box<Violation>),
    /// The limit to the work was reached before an order was found or all were tried.
    Undecided {
        /// The object, as `Debug` shows it.
        object: String,
        /// How many operations it has.
        operations: usize,
        /// How many of them are in the longest order that was found. If a higher limit does not get
        /// further, the history is most likely wrong near there.
        placed: usize,
        /// The limit.
        steps_max: u64,
    },
}

impl Failure {
    /// The violation, if it is one.
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

/// An object whose operations fit no order.
///
/// It speaks of the shortest beginning of the history that is wrong already: up to the return of the
/// [`culprit`](Violation::culprit), without which that beginning is linearizable. Operations that had
/// not returned by then count as unanswered. Numbers of operations are their places in
/// [`History::operations`].
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
        stuck: &Stuck<S>,
    ) -> Violation {
        let operations = history.operations();
        let culprit = part.iter().find(|(_, operation)| {
            let answer = operation.answer.as_ref();
            answer.is_some_and(|answer| answer.1 == end)
        });
        let mut violation = Violation {
            // A part has at least the operations that could not be placed.
            object: part
                .first()
                .map(|(_, operation)| format!("{:?}", operation.object))
                .unwrap_or_default(),
            culprit: culprit.map(|&(place, _)| place),
            prefix: stuck.prefix.clone(),
            refused: stuck.refused.clone(),
            text: String::new(),
        };
        let text = violation.describe(operations, end, &stuck.state);
        violation.text = text.unwrap_or_default();
        violation
    }

    /// The object, as `Debug` shows it.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// The operation whose return made the history wrong. `None` if the limit of the checker was too
    /// low to find out.
    pub fn culprit(&self) -> Option<usize> {
        self.culprit
    }

    /// The longest order that was found, up to the culprit's return.
    pub fn prefix(&self) -> &[usize] {
        &self.prefix
    }

    /// The operations of which one had to be next after [`prefix`](Violation::prefix), and none could.
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
        for &place in &self.prefix[hidden..] {
            let operation = &operations[place];
            let answer = operation.answer.as_ref();
            let running = answer.is_some_and(|answer| answer.1 > end);
            let note = if running { "  (still running)" } else { "" };
            writeln!(text, "  {operation}{note}")?;
        }
        writeln!(text, "leads to the state\n  {state:?}")?;
        write!(text, "in which none of these is possible:")?;
        for &place in &self.refused {
            write!(text, "\n  {}", operations[place])?;
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
