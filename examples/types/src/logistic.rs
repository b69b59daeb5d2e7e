//! Logistic regression (§6.2 of the paper): the weights.

mod descent;

use std::task::Poll;

use crucial::shared;
use serde::{Deserialize, Serialize};

pub use descent::{Descent, Partial};

/// The weights, and the threads' contributions to the next step.
#[derive(Serialize, Deserialize)]
pub struct Model {
    /// The state of the descent.
    pub descent: Descent,
}

#[shared]
impl Model {
    /// Adds the contribution of a part of the rows to a step, and waits for the other parts. Returns the number of the next
    /// step and its weights, by which a restarted thread learns the progress of the others.
    pub fn contribute(&mut self, step: u64, part: u64, partial: &Partial) -> Poll<(u64, Vec<f64>)> {
        if self.descent.contribute(step, part, partial) {
            Poll::Ready((self.descent.steps(), self.descent.weights().to_vec()))
        } else {
            Poll::Pending
        }
    }

    /// The mean loss before each step.
    pub fn losses(&self) -> Vec<f64> {
        self.descent.losses().to_vec()
    }
}
