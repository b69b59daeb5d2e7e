//! The state of a gradient descent. The std-thread version uses it, too.

use serde::{Deserialize, Serialize};

/// The contribution of a part of the rows to a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Partial {
    /// The sum of the gradients of the rows.
    pub gradient: Vec<f64>,
    /// The sum of the losses of the rows.
    pub loss: f64,
    /// The number of rows.
    pub rows: u64,
}

/// The weights and the history of the steps. A step ends when all parts have contributed. Contributions are added up in
/// the order of the parts, so that the result does not depend on the order of arrival.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Descent {
    rate: f64,
    weights: Vec<f64>,
    losses: Vec<f64>,
    parts: Vec<Option<Partial>>,
}

impl Descent {
    /// Returns the state before the first step of `parts` threads: `weights` for the intercept and each feature.
    pub fn new(rate: f64, weights: usize, parts: usize) -> Descent {
        Descent {
            rate,
            weights: vec![0.0; weights],
            losses: Vec::new(),
            parts: vec![None; parts],
        }
    }

    /// The number of completed steps.
    pub fn steps(&self) -> u64 {
        self.losses.len() as u64
    }

    /// The weights after these steps.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// The mean loss before each step.
    pub fn losses(&self) -> &[f64] {
        &self.losses
    }

    /// Adds the contribution of a part to a step. The last part completes the step. Returns whether the step is complete.
    pub fn contribute(&mut self, step: u64, part: u64, partial: &Partial) -> bool {
        let part = usize::try_from(part).expect("a part has an index");
        if step == self.steps() {
            self.parts[part].get_or_insert_with(|| partial.clone());
            if self.parts.iter().all(Option::is_some) {
                self.descend();
            }
        }
        step < self.steps()
    }

    fn descend(&mut self) {
        let mut gradient = vec![0.0; self.weights.len()];
        let (mut loss, mut rows) = (0.0, 0);
        for part in self.parts.iter_mut().filter_map(Option::take) {
            for (sum, value) in gradient.iter_mut().zip(&part.gradient) {
                *sum += value;
            }
            loss += part.loss;
            rows += part.rows;
        }
        for (weight, sum) in self.weights.iter_mut().zip(&gradient) {
            *weight -= self.rate * sum / rows as f64;
        }
        self.losses.push(loss / rows as f64);
    }
}
