//! k-means (Listing 2 of the paper): the centroids, and how far they moved.

mod step;

use crucial::shared;
use serde::{Deserialize, Serialize};

pub use step::{Partial, Step};

/// The centroids, and what the threads contribute to the next ones.
#[derive(Serialize, Deserialize)]
pub struct GlobalCentroids {
    /// The step that they work on.
    pub step: Step,
}

#[shared]
impl GlobalCentroids {
    /// The centroids, one after the other.
    pub fn get(&self) -> Vec<f64> {
        self.step.centroids().to_vec()
    }

    /// The number of points of each cluster.
    pub fn counts(&self) -> Vec<u64> {
        self.step.counts().to_vec()
    }

    /// Takes the contribution of a part; the last one of a step gets what [`Step::contribute`] gives.
    pub fn update(&mut self, part: usize, partial: Partial) -> Option<(f64, f64)> {
        self.step.contribute(part, partial)
    }
}

/// How the steps went.
#[derive(Default, Serialize, Deserialize)]
pub struct GlobalDelta {
    moved: f64,
    history: Vec<f64>,
}

#[shared]
impl GlobalDelta {
    /// The result of a step.
    pub fn record(&mut self, inertia: f64, moved: f64) {
        self.history.push(inertia);
        self.moved = moved;
    }

    /// How far the centroids moved in the last step.
    pub fn moved(&self) -> f64 {
        self.moved
    }

    /// The inertia of each step.
    pub fn history(&self) -> Vec<f64> {
        self.history.clone()
    }
}
