//! What an object does when one thread uses it.

use std::fmt::Debug;
use std::hash::Hash;

/// A sequential specification of one object.
pub trait Model {
    /// All that future outputs depend on. Equal states must have equal futures.
    type State: Clone + Eq + Hash + Debug;
    /// The method and its arguments. Equal inputs must be interchangeable.
    type Input: PartialEq + Debug;
    /// The result.
    type Output: Debug;

    /// The state of a new object.
    fn init(&self) -> Self::State;

    /// The state after `input` had `output` in `state`; `None` if that is impossible, because the
    /// output would be another one or because the call would still wait.
    ///
    /// With no output, nobody saw the answer, and any output that is possible in `state` is right.
    /// [`matching`] does the comparison for objects whose output follows from state and input.
    fn step(
        &self,
        state: &Self::State,
        input: &Self::Input,
        output: Option<&Self::Output>,
    ) -> Option<Self::State>;
}

/// The state of `next`, if its output is the one that was seen or none was seen.
///
/// ```
/// use crucial_linear::{Model, matching};
///
/// /// A counter whose one method adds and gives the sum.
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
pub fn matching<S, O: PartialEq>(next: (S, O), seen: Option<&O>) -> Option<S> {
    let (state, output) = next;
    seen.is_none_or(|seen| *seen == output).then_some(state)
}
