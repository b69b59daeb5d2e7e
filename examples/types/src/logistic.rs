//! Logistic regression (§6.2 of the paper): the weights.

mod descent;

use std::task::Poll;

use crucial::shared;
use serde::{Deserialize, Serialize};

pub use descent::{Descent, Partial};

/// The weights, and what the threads contribute to the next ones.
#[derive(Serialize, Deserialize)]
pub struct Model {
    /// How far they are.
    pub descent: Descent,
}

#[shared]
impl Model {
    /// Takes what a part of the rows contributes to a step, and waits for the other parts; the next step,
    /// and its weights. A thread that was started again finds out here how far the others are.
    pub fn contribute(
        &mut self,
        step: u64,
        part: usize,
        partial: &Partial,
    ) -> Poll<(u64, Vec<f64>)> {
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
