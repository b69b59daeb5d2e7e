//! The check of a history, for each object separately.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

use crate::search::{DeadEnd, Outcome, Part, search};
use crate::{Failure, History, Model, Operation, Violation};

/// Most steps of the model for one object, unless [`Checker::steps_max`] sets another limit. The limit bounds
/// time and memory: each step keeps at most one state.
pub const STEPS_MAX: u64 = 4_000_000;

/// Checks `history` with a [`Checker`] and the default limit.
///
/// # Errors
///
/// As [`Checker::check`].
pub fn check<M, K>(history: &History<K, M::Input, M::Output>, model: &M) -> Result<(), Failure>
where
    M: Model,
    K: Eq + Hash + Debug,
{
    Checker::new(model).check(history)
}

/// Checks histories against a model.
#[derive(Clone, Copy, Debug)]
pub struct Checker<'m, M> {
    model: &'m M,
    steps_max: u64,
}

/// An operation with its index in the history.
type Numbered<'h, K, I, O> = (usize, &'h Operation<K, I, O>);

impl<'m, M: Model> Checker<'m, M> {
    /// Returns a checker that gives up after [`STEPS_MAX`] steps on an object.
    pub const fn new(model: &'m M) -> Self {
        Checker {
            model,
            steps_max: STEPS_MAX,
        }
    }

    /// Returns this checker with another limit.
    #[must_use]
    pub const fn steps_max(self, steps_max: u64) -> Self {
        Checker { steps_max, ..self }
    }

    /// Checks whether the operations on each object have an order that the model allows.
    ///
    /// # Errors
    ///
    /// [`Failure::Violation`] for the first object in the history without such an order; otherwise
    /// [`Failure::Undecided`] if the limit was too low for an object.
    pub fn check<K>(&self, history: &History<K, M::Input, M::Output>) -> Result<(), Failure>
    where
        K: Eq + Hash + Debug,
    {
        let mut undecided = None;
        for part in parts(history) {
            match self.search(&part, u64::MAX) {
                Outcome::Linearizable => {}
                Outcome::Undecided { placed } => {
                    undecided.get_or_insert_with(|| Failure::Undecided {
                        object: format!("{:?}", part[0].1.object),
                        operations: part.len(),
                        placed,
                        steps_max: self.steps_max,
                    });
                }
                Outcome::DeadEnd(dead_end) => {
                    let (end, dead_end) = self.shortest(&part, dead_end);
                    let violation = Violation::new(history, &part, end, &dead_end);
                    return Err(Failure::Violation(Box::new(violation)));
                }
            }
        }
        undecided.map_or(Ok(()), Err)
    }

    /// Finds the shortest prefix of a history that is not linearizable. Each prefix of a linearizable history is
    /// linearizable, so that the prefix can be found by bisection over the returns.
    fn shortest<K>(
        &self,
        part: &[Numbered<'_, K, M::Input, M::Output>],
        dead_end: DeadEnd<M::State>,
    ) -> (u64, DeadEnd<M::State>) {
        let mut returns: Vec<u64> = part
            .iter()
            .filter_map(|(_, operation)| operation.answer.as_ref())
            .map(|answer| answer.1)
            .collect();
        returns.sort_unstable();
        let mut shortest = (u64::MAX, dead_end);
        let (mut low, mut high) = (0, returns.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.search(part, returns[middle]) {
                Outcome::DeadEnd(dead_end) => {
                    shortest = (returns[middle], dead_end);
                    high = middle;
                }
                // An undecided prefix counts as linearizable: the result may then not be the shortest.
                Outcome::Linearizable | Outcome::Undecided { .. } => low = middle + 1,
            }
        }
        shortest
    }

    fn search<K>(
        &self,
        part: &[Numbered<'_, K, M::Input, M::Output>],
        end: u64,
    ) -> Outcome<M::State> {
        let part = Part::new(part.iter().copied(), end);
        search(self.model, &part, self.steps_max)
    }
}

/// The operations on each object with their indexes in the history. No part is empty.
fn parts<K: Eq + Hash, I, O>(history: &History<K, I, O>) -> Vec<Vec<Numbered<'_, K, I, O>>> {
    let mut numbers = HashMap::new();
    let mut parts: Vec<Vec<_>> = Vec::new();
    for (index, operation) in history.operations().iter().enumerate() {
        let number = *numbers.entry(&operation.object).or_insert(parts.len());
        if number == parts.len() {
            parts.push(Vec::new());
        }
        parts[number].push((index, operation));
    }
    parts
}
