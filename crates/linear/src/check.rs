//! The check of a history: each object by itself.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

use crate::search::{Outcome, Part, Stuck, search};
use crate::{Failure, History, Model, Operation, Violation};

/// How often the model may be asked for one object, unless [`Checker::steps_max`] says otherwise.
/// A bound on time and on memory: each step keeps at most one state.
pub const STEPS_MAX: u64 = 4_000_000;

/// Checks `history` with a [`Checker`] of the usual limit.
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

/// Checks histories of objects that a model describes.
#[derive(Clone, Copy, Debug)]
pub struct Checker<'m, M> {
    model: &'m M,
    steps_max: u64,
}

/// An operation and its place in the history.
type Numbered<'h, K, I, O> = (usize, &'h Operation<K, I, O>);

impl<'m, M: Model> Checker<'m, M> {
    /// A checker that gives up after [`STEPS_MAX`] steps on an object.
    pub const fn new(model: &'m M) -> Self {
        Checker {
            model,
            steps_max: STEPS_MAX,
        }
    }

    /// The same with another limit.
    #[must_use]
    pub const fn steps_max(self, steps_max: u64) -> Self {
        Checker { steps_max, ..self }
    }

    /// Whether the operations on each object can be put in an order that the model allows.
    ///
    /// # Errors
    ///
    /// [`Failure::Violation`] if they can not, for the first such object in the history; otherwise
    /// [`Failure::Undecided`] if the limit was too low for one.
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
                Outcome::Stuck(stuck) => {
                    let (end, stuck) = self.shortest(&part, stuck);
                    let violation = Violation::new(history, &part, end, &stuck);
                    return Err(Failure::Violation(Box::new(violation)));
                }
            }
        }
        undecided.map_or(Ok(()), Err)
    }

    /// Cuts a history without an order as short as it can be without becoming linearizable: up to
    /// the return that is one too many. What has an order has one for each of its beginnings, so the
    /// place can be found by bisection.
    fn shortest<K>(
        &self,
        part: &[Numbered<'_, K, M::Input, M::Output>],
        stuck: Stuck<M::State>,
    ) -> (u64, Stuck<M::State>) {
        let mut returns: Vec<u64> = part
            .iter()
            .filter_map(|(_, operation)| operation.answer.as_ref())
            .map(|answer| answer.1)
            .collect();
        returns.sort_unstable();
        let mut shortest = (u64::MAX, stuck);
        let (mut low, mut high) = (0, returns.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.search(part, returns[middle]) {
                Outcome::Stuck(stuck) => {
                    shortest = (returns[middle], stuck);
                    high = middle;
                }
                // Undecided ones are not shown to be wrong: the result is then not the shortest.
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

/// The operations on each object with their places in the history. No part is empty.
fn parts<K: Eq + Hash, I, O>(history: &History<K, I, O>) -> Vec<Vec<Numbered<'_, K, I, O>>> {
    let mut numbers = HashMap::new();
    let mut parts: Vec<Vec<_>> = Vec::new();
    for (place, operation) in history.operations().iter().enumerate() {
        let number = *numbers.entry(&operation.object).or_insert(parts.len());
        if number == parts.len() {
            parts.push(Vec::new());
        }
        parts[number].push((place, operation));
    }
    parts
}
