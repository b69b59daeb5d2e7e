//! Random forests: each tree is trained on a bootstrap sample, and votes on the test rows.

use ndarray::{Array2, Axis};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};
use smartcore::ensemble::random_forest_classifier::{
    RandomForestClassifier, RandomForestClassifierParameters,
};
use smartcore::linalg::basic::matrix::DenseMatrix;

use crate::paths::SentPath;
use crate::points::digits;
use crate::{Error, Result, say, table};

/// The arguments of each thread.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The rows, instead of the digits; the last column is the class.
    pub file: Option<SentPath>,
    /// Number of trees.
    pub trees: usize,
    /// Number of threads.
    pub threads: usize,
    /// Largest depth of a tree.
    pub depth: u16,
    /// Seed.
    pub seed: u64,
}

/// Training rows, and test rows: a fifth of all rows.
pub struct Split {
    seed: u64,
    depth: u16,
    name: String,
    /// What there is to be said about the file.
    pub note: Option<String>,
    known: DenseMatrix<f64>,
    known_classes: Vec<u32>,
    test: DenseMatrix<f64>,
    test_classes: Vec<u32>,
}

impl Job {
    /// The numbers of a thread's trees.
    pub fn part(&self, thread: usize) -> std::ops::Range<usize> {
        thread * self.trees / self.threads..(thread + 1) * self.trees / self.threads
    }

    /// The rows, split by the seed, so that all threads have the same split.
    pub fn split(&self) -> Result<Split> {
        let (rows, name, note) = match &self.file {
            Some(path) => {
                let table = table::load(&path.0)?;
                (table.values, path.0.display().to_string(), table.note)
            }
            None => (digits()?, "digits".to_owned(), None),
        };
        let bad = |detail: String| Error::Content {
            path: name.clone(),
            detail,
        };
        if rows.nrows() < 10 || rows.ncols() < 2 {
            return Err(bad(format!(
                "{} rows of {} columns: at least 10 rows are needed, each with a feature and a class",
                rows.nrows(),
                rows.ncols()
            )));
        }
        let mut order: Vec<usize> = (0..rows.nrows()).collect();
        order.shuffle(&mut Xoshiro256PlusPlus::seed_from_u64(self.seed));
        let (test, known) = order.split_at(rows.nrows() / 5);
        let (test, test_classes) = choose(&rows, test).map_err(bad)?;
        let (known, known_classes) = choose(&rows, known).map_err(bad)?;
        Ok(Split {
            seed: self.seed,
            depth: self.depth,
            name,
            note,
            known,
            known_classes,
            test,
            test_classes,
        })
    }
}

/// Features and classes of some rows.
fn choose(rows: &Array2<f64>, chosen: &[usize]) -> Result<(DenseMatrix<f64>, Vec<u32>), String> {
    let rows = rows.select(Axis(0), chosen);
    let features = rows.ncols() - 1;
    let classes = rows.column(features).into_iter().map(|&class| {
        if class.fract() != 0.0 || !(0.0..=1e6).contains(&class) {
            return Err(format!(
                "{class} in the last column, which must contain classes: 0, 1, 2 .."
            ));
        }
        Ok(class as u32)
    });
    let classes: Vec<u32> = classes.collect::<Result<_, String>>()?;
    let values = rows.slice(ndarray::s![.., ..features]);
    let values = values.iter().copied().collect();
    let matrix = DenseMatrix::new(rows.nrows(), features, values, false);
    Ok((matrix.map_err(|error| error.to_string())?, classes))
}

impl Split {
    /// The number of test rows.
    pub fn tests(&self) -> usize {
        self.test_classes.len()
    }

    /// Trains a tree, and returns its votes: a class for each test row.
    pub fn votes(&self, tree: usize) -> Result<Vec<f64>> {
        // A forest of one tree: the tree is trained on a bootstrap sample, and each node uses some of the features.
        let options = RandomForestClassifierParameters::default()
            .with_n_trees(1)
            .with_max_depth(self.depth)
            .with_seed(self.seed ^ ((tree as u64 + 1) << 32));
        let votes = RandomForestClassifier::fit(&self.known, &self.known_classes, options)
            .and_then(|trained| trained.predict(&self.test));
        match votes {
            Ok(votes) => Ok(votes.into_iter().map(f64::from).collect()),
            Err(error) => Err(Error::Content {
                path: self.name.clone(),
                detail: format!("no tree can be trained: {error}"),
            }),
        }
    }

    /// The number of test rows whose predicted class is right.
    fn hits(&self, votes: impl Iterator<Item = u32>) -> usize {
        let pairs = votes.zip(&self.test_classes);
        pairs.filter(|(vote, class)| vote == *class).count()
    }

    /// Prints the accuracy of single trees and of the forest. `votes` contains the votes of one tree after the other.
    pub fn report(&self, votes: &[f64]) {
        let tests = self.tests();
        let percent = |hits: usize, of: usize| 100.0 * hits as f64 / of as f64;
        let single = self.each(votes).map(|votes| self.hits(votes)).sum();
        say!(
            "mean accuracy of a single tree: {:.2} %",
            percent(single, votes.len())
        );
        let hits = self.hits(self.majority(votes).into_iter());
        say!(
            "accuracy of the forest of {} trees: {hits} of {tests}, {:.2} %",
            votes.len() / tests,
            percent(hits, tests)
        );
    }

    /// The votes of each tree.
    fn each<'a>(&self, votes: &'a [f64]) -> impl Iterator<Item = impl Iterator<Item = u32> + 'a> {
        votes
            .chunks(self.tests())
            .map(|votes| votes.iter().map(|vote| *vote as u32))
    }

    /// The class with most votes for each row; of several, the lowest.
    fn majority(&self, votes: &[f64]) -> Vec<u32> {
        let classes = votes.iter().fold(0, |most, vote| most.max(*vote as usize)) + 1;
        let mut counts = vec![0; self.tests() * classes];
        for votes in self.each(votes) {
            for (row, vote) in votes.enumerate() {
                counts[row * classes + vote as usize] += 1;
            }
        }
        let most = |counts: &[u32]| (0..classes).rev().max_by_key(|class| counts[*class]);
        let classes = counts.chunks(classes).filter_map(most);
        classes.map(|class| class as u32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        Job {
            file: None,
            trees: 15,
            threads: 4,
            depth: 30,
            seed: 1,
        }
    }

    #[test]
    fn a_forest_knows_digits_better_than_a_tree() {
        let split = job().split().unwrap();
        assert_eq!(split.tests(), 359);
        let votes: Vec<f64> = (0..15)
            .flat_map(|tree| split.votes(tree).unwrap())
            .collect();
        let tree = split.hits(split.each(&votes).next().unwrap());
        let forest = split.hits(split.majority(&votes).into_iter());
        assert!(
            tree > 359 * 7 / 10 && forest > 359 * 9 / 10,
            "{tree} {forest}"
        );
        assert!(forest > tree);
        // Trees differ from each other, and are reproducible.
        assert_ne!(split.votes(0).unwrap(), split.votes(1).unwrap());
        assert_eq!(split.votes(0).unwrap(), votes[..359]);
    }

    #[test]
    fn a_majority_decides_and_the_lowest_of_equals() {
        let mut split = job().split().unwrap();
        split.test_classes.truncate(3);
        let votes = [2.0, 0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 3.0, 5.0];
        assert_eq!(split.majority(&votes), [2, 3, 0]);
    }

    #[test]
    fn all_trees_are_dealt() {
        let parts: Vec<usize> = (0..4).flat_map(|thread| job().part(thread)).collect();
        assert_eq!(parts, (0..15).collect::<Vec<_>>());
    }
}
