//! Logistic regression by gradient descent: the kernel and its data. The weights are in the crate of the shared types.

use ndarray::{Axis, s};
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};

pub use crucial_example_types::logistic::{Descent, Partial};

use crate::paths::SentPath;
use crate::table::{self, Table};
use crate::{Error, Result, memory, say};

/// 569 samples of breast tissue; see `data/README.md`.
static BREAST_CANCER: &[u8] = include_bytes!("../data/breast_cancer.csv");

/// Number of sums that are added in parallel. The order of the additions does not depend on the machine.
const LANES: usize = 8;

/// The source of the rows. The value is small: it is sent to each thread, which loads its own part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Source {
    /// The breast-cancer data.
    BreastCancer,
    /// A file: `.csv`, `.csv.gz` or `.npy`. The last column is the label, 0 or 1.
    File(SentPath),
    /// Normally distributed features, with labels from a model with random weights.
    Generated {
        /// Number of rows.
        rows: usize,
        /// Number of features.
        columns: usize,
        /// Seed.
        seed: u64,
    },
}

/// The arguments of each thread.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The rows.
    pub source: Source,
    /// Number of threads.
    pub threads: usize,
    /// Number of steps.
    pub iterations: u64,
    /// The learning rate.
    pub rate: f64,
}

/// Rows with their labels. The first feature of each is 1, for the intercept.
pub struct Rows {
    columns: usize,
    features: Vec<f64>,
    labels: Vec<f64>,
}

impl Source {
    /// The numbers of rows and of features, with what there is to be said about the file.
    fn shape(&self) -> Result<((usize, usize), Option<String>)> {
        if let Source::Generated { rows, columns, .. } = *self {
            let what = || format!("{rows} rows of {columns} features");
            memory::check(what, memory::of_numbers(&[rows, columns.saturating_add(2)]))?;
            return Ok(((rows, columns), None));
        }
        let table = self.load()?;
        let (rows, columns) = table.values.dim();
        Ok(((rows, columns - 1), table.note))
    }

    /// The rows of part `index` of `parts`.
    fn part(&self, index: usize, parts: usize) -> Result<Rows> {
        let cut = |rows: usize| index * rows / parts..(index + 1) * rows / parts;
        if let Source::Generated {
            rows,
            columns,
            seed,
        } = *self
        {
            return Ok(Rows::generate(cut(rows), columns, seed));
        }
        let mut all = self.load()?.values;
        let features = all.ncols() - 1;
        standardise(all.slice_mut(s![.., ..features]));
        let part = all.slice(s![cut(all.nrows()), ..]);
        let mut rows = Rows::new(features + 1);
        for row in part.rows() {
            rows.push(row.iter().take(features).copied(), row[features]);
        }
        Ok(rows)
    }

    fn load(&self) -> Result<Table> {
        let (table, name) = match self {
            Source::File(path) => (table::load(&path.0)?, path.0.display().to_string()),
            _ => {
                let name = "breast_cancer.csv";
                // Its first line has counts and names.
                let start = BREAST_CANCER.iter().position(|byte| *byte == b'\n');
                let rows = &BREAST_CANCER[start.map_or(0, |end| end + 1)..];
                (table::csv(rows, name)?, name.to_owned())
            }
        };
        let all = &table.values;
        let bad = |detail: String| Err(Error::Content { path: name, detail });
        let Some(features) = all.ncols().checked_sub(1).filter(|count| *count > 0) else {
            return bad(
                "a row needs at least one feature, and the label as its last column".into(),
            );
        };
        let wrong = all
            .column(features)
            .iter()
            .position(|&y| y != 0.0 && y != 1.0);
        match wrong {
            Some(row) => bad(format!(
                "{}: the label is {}, and must be 0 or 1",
                table.place(row, features),
                all[(row, features)]
            )),
            None => Ok(table),
        }
    }
}

/// Normalizes each column to mean 0 and standard deviation 1.
fn standardise(mut features: ndarray::ArrayViewMut2<'_, f64>) {
    for mut column in features.axis_iter_mut(Axis(1)) {
        let first = column[0];
        if column.iter().all(|value| *value == first) {
            // A constant column has no information. (The mean of its values need not be one of them.)
            column.fill(0.0);
            continue;
        }
        table::tame(column.view_mut());
        let count = column.len() as f64;
        // Twice, as the sum of large values is rounded.
        for _ in 0..2 {
            let mean = column.sum() / count;
            column -= mean;
        }
        let deviation = (column.dot(&column) / count).sqrt();
        column /= deviation;
    }
}

impl Job {
    /// Checks the job, and uses no more threads than there are rows. Returns the numbers of rows and features.
    pub fn check(&mut self) -> Result<(usize, usize)> {
        let ((rows, columns), note) = self.source.shape()?;
        if let Some(note) = note {
            say::note(format_args!("{note}"));
        }
        self.threads = self.threads.min(rows);
        Ok((rows, columns))
    }

    /// The weights before the first step.
    pub fn descent(&self, columns: usize) -> Descent {
        Descent::new(self.rate, columns + 1, self.threads)
    }

    /// The rows of thread `index`.
    pub fn part(&self, index: usize) -> Result<Rows> {
        self.source.part(index, self.threads)
    }
}

impl Rows {
    fn new(columns: usize) -> Rows {
        Rows {
            columns,
            features: Vec::new(),
            labels: Vec::new(),
        }
    }

    fn push(&mut self, features: impl Iterator<Item = f64>, label: f64) {
        self.features.push(1.0);
        self.features.extend(features);
        self.labels.push(label);
    }

    fn generate(range: std::ops::Range<usize>, columns: usize, seed: u64) -> Rows {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let truth: Vec<f64> = (0..=columns)
            .map(|_| StandardNormal.sample(&mut random))
            .collect();
        let mut rows = Rows::new(columns + 1);
        let mut features = vec![0.0; columns];
        for row in range {
            // Each row has its own seed, so that the rows do not depend on the partition.
            let mut random = Xoshiro256PlusPlus::seed_from_u64(seed ^ ((row as u64 + 1) << 20));
            features.fill_with(|| StandardNormal.sample(&mut random));
            let z = truth[0] + dot(&truth[1..], &features);
            let label = f64::from(random.random::<f64>() < sigmoid(z));
            rows.push(features.iter().copied(), label);
        }
        rows
    }

    /// The weights before the first step: the intercept, then one for each feature.
    pub fn start(&self) -> Vec<f64> {
        vec![0.0; self.columns]
    }

    /// Gradient and loss of the rows.
    pub fn gradient(&self, weights: &[f64]) -> Partial {
        let mut gradient = vec![0.0; self.columns];
        let mut loss = 0.0;
        for (row, &label) in self.each() {
            let z = dot(row, weights);
            let error = sigmoid(z) - label;
            for (sum, value) in gradient.iter_mut().zip(row) {
                *sum += error * value;
            }
            // log(1 + eᶻ) − y z, computed without overflow for large z.
            loss += z.max(0.0) + (-z.abs()).exp().ln_1p() - label * z;
        }
        Partial {
            gradient,
            loss,
            rows: self.labels.len() as u64,
        }
    }

    /// The number of rows that the weights classify correctly.
    pub fn hits(&self, weights: &[f64]) -> u64 {
        let hits = self
            .each()
            .filter(|(row, label)| (dot(row, weights) > 0.0) == (**label == 1.0));
        hits.count() as u64
    }

    fn each(&self) -> impl Iterator<Item = (&[f64], &f64)> {
        self.features.chunks_exact(self.columns).zip(&self.labels)
    }
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// Prints the loss before each step, and the final accuracy.
///
/// # Errors
///
/// If a loss is no number, as the steps were too long.
pub fn report(losses: &[f64], hits: u64, rows: usize) -> Result<()> {
    if let Some(step) = losses.iter().position(|loss| !loss.is_finite()) {
        return Err(Error::Option(format!(
            "the loss before step {} is {}: give a smaller --rate",
            step + 1,
            losses[step]
        )));
    }
    for (step, loss) in losses.iter().enumerate() {
        say!("step {:3}: loss {loss:.12}", step + 1);
    }
    let accuracy = 100.0 * hits as f64 / rows as f64;
    say!("{hits} of {rows} rows are classified right: {accuracy:.2} %");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(source: Source, threads: usize) -> Job {
        Job {
            source,
            threads,
            iterations: 50,
            rate: 0.5,
        }
    }

    fn run(mut job: Job, order: impl Fn(usize) -> usize) -> Descent {
        let (_, columns) = job.check().unwrap();
        let mut descent = job.descent(columns);
        let parts: Vec<_> = (0..job.threads).map(|i| job.part(i).unwrap()).collect();
        for step in 0..job.iterations {
            let weights = descent.weights().to_vec();
            for i in (0..job.threads).map(&order) {
                descent.contribute(step, i as u64, &parts[i].gradient(&weights));
            }
        }
        descent
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        let rows = Source::BreastCancer.part(0, 1).unwrap();
        let weights: Vec<f64> = (0..31).map(|i| f64::from(i % 5) / 10.0 - 0.2).collect();
        let found = rows.gradient(&weights).gradient;
        for (i, slope) in found.iter().enumerate() {
            let loss = |change: f64| {
                let mut weights = weights.clone();
                weights[i] += change;
                rows.gradient(&weights).loss
            };
            let expected = (loss(1e-5) - loss(-1e-5)) / 2e-5;
            assert!((slope - expected).abs() < 1e-4 * (1.0 + expected.abs()));
        }
    }

    #[test]
    fn parts_in_any_order_descend_as_the_whole() {
        let made = Source::Generated {
            rows: 301,
            columns: 11,
            seed: 3,
        };
        for source in [Source::BreastCancer, made] {
            let whole = run(job(source.clone(), 1), |i| i);
            let up = run(job(source.clone(), 5), |i| i);
            let down = run(job(source, 5), |i| 4 - i);
            assert_eq!(up.losses(), down.losses());
            assert_eq!(whole.losses().len(), 50);
            for (a, b) in whole.losses().iter().zip(up.losses()) {
                assert!((a - b).abs() < 1e-9, "{a} and {b}");
            }
            // With all weights 0, the model guesses.
            assert!((whole.losses()[0] - 2f64.ln()).abs() < 1e-12);
            assert!(whole.losses().is_sorted_by(|a, b| a > b));
        }
    }

    #[test]
    fn a_late_or_repeated_contribution_changes_nothing() {
        let job = job(Source::BreastCancer, 2);
        let mut descent = job.descent(30);
        let partial = job.part(0).unwrap().gradient(&[0.0; 31]);
        assert!(!descent.contribute(0, 0, &partial));
        assert!(!descent.contribute(0, 0, &partial));
        assert!(descent.contribute(0, 1, &partial));
        let weights = descent.weights().to_vec();
        assert!(descent.contribute(0, 0, &partial));
        assert_eq!(descent.weights(), weights);
        assert_eq!(descent.steps(), 1);
    }

    #[test]
    fn bad_labels_are_named_and_needless_threads_are_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rows.csv");
        std::fs::write(&path, "1,2,0\n3,4,7\n").unwrap();
        let error = Source::File(SentPath(path))
            .shape()
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("line 2, column 3") && error.contains('7'),
            "{error}"
        );
        let mut job = job(Source::BreastCancer, 570);
        job.check().unwrap();
        assert_eq!(job.threads, 569);
    }

    #[test]
    fn columns_of_very_large_or_small_numbers_have_a_deviation() {
        for factor in [1e300, 1e-300] {
            let values = [1.0, 2.0, 4.0, 5.0].map(|x| x * factor).to_vec();
            let mut column = ndarray::Array2::from_shape_vec((4, 1), values).unwrap();
            standardise(column.view_mut());
            let square = column.column(0).dot(&column.column(0));
            assert!((square - 4.0).abs() < 1e-9, "{factor}: {column}");
        }
    }

    #[test]
    fn a_constant_column_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let losses = |name: &str, constant: &str| {
            let path = directory.path().join(name);
            let row = |i: u32| format!("{},{constant}{},{}\n", (i * 7) % 11, (i * 5) % 13, i % 2);
            std::fs::write(&path, (0..300).map(row).collect::<String>()).unwrap();
            let descent = run(job(Source::File(SentPath(path)), 1), |i| i);
            descent.losses().to_vec()
        };
        let without = losses("a.csv", "");
        for constant in ["0.1,", "1e9,", "-0.3,"] {
            for (a, b) in losses("b.csv", constant).iter().zip(&without) {
                assert!((a - b).abs() < 1e-12, "{constant}: {a} and {b}");
            }
        }
    }
}
