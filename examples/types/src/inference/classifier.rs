//! The model; std threads use it as it is.

use serde::{Deserialize, Serialize};

/// Centroids of clusters, and the digit that each stands for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Classifier {
    centroids: Vec<f64>,
    digits: Vec<u8>,
}

impl Classifier {
    /// The model of clusters, each with the digit that is most frequent in it.
    pub fn new(centroids: Vec<f64>, digits: Vec<u8>) -> Classifier {
        Classifier { centroids, digits }
    }

    /// The digit in a picture.
    pub fn classify(&self, picture: &[f64]) -> u8 {
        self.digits[self.nearest(picture)]
    }

    /// The cluster of a picture.
    pub fn nearest(&self, picture: &[f64]) -> usize {
        let (mut nearest, mut least) = (0, f64::INFINITY);
        for (cluster, centroid) in self.centroids.chunks(picture.len().max(1)).enumerate() {
            let differences = centroid.iter().zip(picture).map(|(a, b)| a - b);
            let distance: f64 = differences.map(|difference| difference * difference).sum();
            if distance < least {
                (nearest, least) = (cluster, distance);
            }
        }
        nearest
    }
}
