//! The state of a step of k-means. The std-thread version uses it, too.

use serde::{Deserialize, Serialize};

/// The contribution of a part of the points to a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Partial {
    /// The sum of the points of each cluster, one cluster after the other.
    pub sums: Vec<f64>,
    /// The number of points of each cluster.
    pub counts: Vec<u64>,
    /// The sum of the squared distances to the nearest centroids.
    pub inertia: f64,
}

/// The centroids that all threads share. A step ends when all parts have contributed. Contributions are added up in
/// the order of the parts, so that the result does not depend on the order of arrival.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    centroids: Vec<f64>,
    counts: Vec<u64>,
    waiting: Vec<Option<Partial>>,
}

impl Step {
    /// Returns the state before the first step of `parts` threads.
    pub fn new(centroids: Vec<f64>, parts: usize) -> Step {
        Step {
            centroids,
            counts: Vec::new(),
            waiting: vec![None; parts],
        }
    }

    /// The centroids.
    pub fn centroids(&self) -> &[f64] {
        &self.centroids
    }

    /// The number of points of each cluster.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Adds the contribution of a part. The last one of a step moves the centroids, and returns the inertia and the largest
    /// squared distance that a centroid moved.
    pub fn contribute(&mut self, part: u64, partial: Partial) -> Option<(f64, f64)> {
        let part = usize::try_from(part).expect("a part has an index");
        self.waiting[part] = Some(partial);
        if self.waiting.iter().any(Option::is_none) {
            return None;
        }
        let mut parts = self.waiting.iter_mut().filter_map(Option::take);
        let mut total = parts.next()?;
        for part in parts {
            add(&mut total.sums, &part.sums);
            add(&mut total.counts, &part.counts);
            total.inertia += part.inertia;
        }
        let moved = self.move_to(&total);
        self.counts = total.counts;
        Some((total.inertia, moved))
    }

    fn move_to(&mut self, total: &Partial) -> f64 {
        let dimensions = total.sums.len() / total.counts.len();
        let mut moved: f64 = 0.0;
        let clusters = self.centroids.chunks_mut(dimensions);
        for ((centroid, sum), count) in clusters
            .zip(total.sums.chunks(dimensions))
            .zip(&total.counts)
        {
            // A cluster without points keeps its centroid.
            if *count == 0 {
                continue;
            }
            let mut distance = 0.0;
            for (old, sum) in centroid.iter_mut().zip(sum) {
                let new = sum / *count as f64;
                distance += (new - *old) * (new - *old);
                *old = new;
            }
            moved = moved.max(distance);
        }
        moved
    }
}

fn add<T: Copy + std::ops::AddAssign>(total: &mut [T], part: &[T]) {
    for (total, part) in total.iter_mut().zip(part) {
        *total += *part;
    }
}
