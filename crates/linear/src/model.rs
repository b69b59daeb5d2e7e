//! Sequential specifications of objects.

use std::fmt::Debug;
use std::hash::Hash;

/// A sequential specification of one object.
pub trait Model {
    /// The state that determines all future outputs. Equal states must have equal futures.
    type State: Clone + Eq + Hash + Debug;
    /// The method and its arguments. Equal inputs must be interchangeable.
    type Input: PartialEq + Debug;
    /// The result.
    type Output: Debug;

    /// The state of a new object.
    fn init(&self) -> Self::State;

    /// The state after a call of `input` in `state` that returned `output`; `None` if that is impossible, because
    /// the output would differ or the call would wait.
    ///
    /// Without an output, the answer is unknown, and any output that is possible in `state` is accepted.
    /// [`matching`] compares outputs for objects whose output follows from state and input.
    fn step(
        &self,
        state: &Self::State,
        input: &Self::Input,
        output: Option<&Self::Output>,
    ) -> Option<Self::State>;
}

/// The state of `next`, if its output equals the observed output, or none was observed.
///
/// ```
/// use crucial_linear::{Model, matching};
///
/// /// A counter whose only method adds a number and returns the sum.
/// struct Counter;
///
/// impl Model for Counter {
///     type State = u64;
///     type Input = u64;
///     type Output = u64;
///
///     fn init(&self) -> u64 {
///         0
///     }
///
///     fn step(&self, count: &u64, add: &u64, sum: Option<&u64>) -> Option<u64> {
///         let next = count + add;
///         matching((next, next), sum)
///     }
/// }
/// ```
pub fn matching<S, O: PartialEq>(next: (S, O), observed: Option<&O>) -> Option<S> {
    let (state, output) = next;
    observed
        .is_none_or(|observed| *observed == output)
        .then_some(state)
}
