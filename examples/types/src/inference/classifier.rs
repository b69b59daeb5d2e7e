//! The model. The std-thread version uses it, too.

use serde::{Deserialize, Serialize};

/// The centroids of clusters, with the digit of each cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Classifier {
    centroids: Vec<f64>,
    digits: Vec<u8>,
}

impl Classifier {
    /// Returns a model of clusters, each with the digit that is most frequent in it.
    pub fn new(centroids: Vec<f64>, digits: Vec<u8>) -> Classifier {
        Classifier { centroids, digits }
    }

    /// Returns the digit in a picture.
    pub fn classify(&self, picture: &[f64]) -> u8 {
        self.digits[self.nearest(picture)]
    }

    /// Returns the cluster of a picture.
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
