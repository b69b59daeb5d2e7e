//! k-means (Listing 2 of the paper): the centroids and the history of the steps.

mod step;

use crucial::shared;
use serde::{Deserialize, Serialize};

pub use step::{Partial, Step};

/// The centroids, and the threads' contributions to the next step.
#[derive(Serialize, Deserialize)]
pub struct GlobalCentroids {
    /// The current step.
    pub step: Step,
}

#[shared]
impl GlobalCentroids {
    /// All centroids, one after the other.
    pub fn get(&self) -> Vec<f64> {
        self.step.centroids().to_vec()
    }

    /// The number of points of each cluster.
    pub fn counts(&self) -> Vec<u64> {
        self.step.counts().to_vec()
    }

    /// Adds the contribution of a part. The last one of a step gets the result of [`Step::contribute`].
    pub fn update(&mut self, part: u64, partial: Partial) -> Option<(f64, f64)> {
        self.step.contribute(part, partial)
    }
}

/// The history of the steps.
#[derive(Default, Serialize, Deserialize)]
pub struct GlobalDelta {
    moved: f64,
    history: Vec<f64>,
}

#[shared]
impl GlobalDelta {
    /// Records the result of a step.
    pub fn record(&mut self, inertia: f64, moved: f64) {
        self.history.push(inertia);
        self.moved = moved;
    }

    /// The largest squared distance that a centroid moved in the last step.
    pub fn moved(&self) -> f64 {
        self.moved
    }

    /// The inertia of each step.
    pub fn history(&self) -> Vec<f64> {
        self.history.clone()
    }
}
