//! Classification of handwritten digits by their nearest centroids (§6.4 of the paper): the model and the requests.

use std::time::Duration;

use clap::ValueEnum;
use ndarray::{Array2, Axis, s};
use serde::{Deserialize, Serialize};

pub use crucial_example_types::inference::Classifier;

use crate::kmeans::{Step, assign, initial};
use crate::points::digits;
use crate::{Result, say};

/// Number of training rows. The other rows are requests.
pub const KNOWN: usize = 1437;

/// Steps of the training.
const STEPS: usize = 30;

/// Where a request is processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub enum Variant {
    /// On the server of the model, which receives the request
    Remote,
    /// In the thread of the request, which fetches the model
    Fetch,
}

/// The arguments of each thread.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Where requests are processed.
    pub variant: Variant,
    /// Number of requests.
    pub requests: usize,
    /// Number of threads.
    pub threads: usize,
}

/// Trains a model of `k` clusters.
pub fn train(k: usize, seed: u64) -> Result<Classifier> {
    let all = digits()?.values;
    let known = all.slice(s![..KNOWN, ..]);
    let points = known.slice(s![.., ..known.ncols() - 1]).to_owned();
    let mut step = Step::new(initial(&points, k, seed)?, 1);
    for _ in 0..STEPS {
        let partial = assign(points.view(), step.centroids());
        step.contribute(0, partial);
    }
    let clusters = Classifier::new(step.centroids().to_vec(), vec![0; k]);
    let names = names(&clusters, k, &points, &label(&known.to_owned()));
    Ok(Classifier::new(step.centroids().to_vec(), names))
}

/// Assigns to each cluster the digit that is most frequent in it.
fn names(clusters: &Classifier, k: usize, points: &Array2<f64>, labels: &[u8]) -> Vec<u8> {
    let mut counts = vec![[0; 10]; k];
    for (point, label) in points.rows().into_iter().zip(labels) {
        counts[clusters.nearest(&point.to_vec())][usize::from(*label)] += 1;
    }
    let most = |counts: [i32; 10]| (0..10u8).max_by_key(|digit| counts[usize::from(*digit)]);
    let names = counts.into_iter().map(|counts| most(counts).unwrap_or(0));
    names.collect()
}

/// Returns the last column.
fn label(rows: &Array2<f64>) -> Vec<u8> {
    let last = rows.index_axis(Axis(1), rows.ncols() - 1);
    last.iter().map(|label| *label as u8).collect()
}

/// A picture and the digit that it shows.
pub struct Request {
    /// 8 × 8 pixels.
    pub picture: Vec<f64>,
    /// The digit.
    pub digit: u8,
}

impl Job {
    /// The requests of a thread: pictures that are not training rows, repeated as needed.
    pub fn part(&self, thread: usize) -> Result<impl Iterator<Item = Request>> {
        let all = digits()?.values;
        let unseen = all.slice(s![KNOWN.., ..]).to_owned();
        let digits = label(&unseen);
        let requests = (thread..self.requests)
            .step_by(self.threads)
            .map(move |request| {
                let row = request % unseen.nrows();
                Request {
                    picture: unseen.slice(s![row, ..unseen.ncols() - 1]).to_vec(),
                    digit: digits[row],
                }
            });
        Ok(requests)
    }
}

/// The result of a thread.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Served {
    /// The number of right answers.
    pub hits: usize,
    /// The duration.
    pub time: Duration,
}

/// Prints accuracy and throughput. All threads start together, so that the slowest one determines the duration.
pub fn report(job: &Job, served: &[Served]) {
    let hits: usize = served.iter().map(|served| served.hits).sum();
    let accuracy = 100.0 * hits as f64 / job.requests as f64;
    let slowest = served.iter().map(|served| served.time).max();
    let seconds = slowest.unwrap_or_default().as_secs_f64().max(1e-9);
    let name = job.variant.to_possible_value();
    say!(
        "{:<7} {hits} of {} answers are right, {accuracy:.2} %; {:.0} requests per second",
        name.map_or(String::new(), |name| name.get_name().to_owned()),
        job.requests,
        job.requests as f64 / seconds
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_reads_unseen_digits() {
        let model = train(60, 1).unwrap();
        let job = Job {
            variant: Variant::Remote,
            requests: 1000,
            threads: 3,
        };
        let all: Vec<_> = (0..3)
            .flat_map(|thread| job.part(thread).unwrap())
            .collect();
        assert_eq!(all.len(), 1000);
        let right = |request: &&Request| model.classify(&request.picture) == request.digit;
        let hits = all.iter().filter(right).count();
        assert!(hits > 850, "{hits}");
    }

    #[test]
    fn a_wrong_number_of_clusters_is_refused() {
        assert!(train(0, 1).is_err());
        assert!(train(1438, 1).is_err());
    }
}
