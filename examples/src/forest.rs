//! Random forests: each tree is trained on a bootstrap sample, and votes on the test rows.

use std::collections::BTreeMap;

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
use crate::table::{self, Table};
use crate::{Error, Result, say};

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
        let (table, name) = match &self.file {
            Some(path) => (table::load(&path.0)?, path.0.display().to_string()),
            None => (digits()?, "digits".to_owned()),
        };
        let bad = |detail: String| Error::Content {
            path: name.clone(),
            detail,
        };
        check(&table).map_err(bad)?;
        let (mut rows, note) = (table.values, table.note);
        rows.columns_mut().into_iter().for_each(table::tame);
        let mut order: Vec<usize> = (0..rows.nrows()).collect();
        order.shuffle(&mut Xoshiro256PlusPlus::seed_from_u64(self.seed));
        let (test, known) = order.split_at(rows.nrows() / 5);
        let (test, test_classes) = choose(&rows, test).map_err(bad)?;
        let (known, known_classes) = choose(&rows, known).map_err(bad)?;
        if let Some(class) = only(&known_classes) {
            return Err(bad(format!(
                "all rows that are trained with, four fifths of all, have the class {class}: give more rows of other \
                 classes, or another --seed"
            )));
        }
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

/// The largest class.
const CLASS_MAX: f64 = 1e6;

/// Refuses a table with which no tree can be trained. The last column has the classes.
fn check(table: &Table) -> Result<(), String> {
    let (rows, columns) = table.values.dim();
    if rows < 10 || columns < 2 {
        return Err(format!(
            "{rows} rows of {columns} columns: at least 10 rows are needed, each with a feature and a class"
        ));
    }
    let classes = table.values.column(columns - 1);
    let is_class = |class: f64| class.fract() == 0.0 && (0.0..=CLASS_MAX).contains(&class);
    if let Some(row) = classes.iter().position(|class| !is_class(*class)) {
        let (place, class) = (table.place(row, columns - 1), classes[row]);
        return Err(format!(
            "{place}: the class is {class}, and must be a whole number from 0 to {CLASS_MAX}"
        ));
    }
    match only(classes) {
        Some(class) => Err(format!(
            "all rows have the class {class} (the last column): at least two classes are needed"
        )),
        None => Ok(()),
    }
}

/// The class of all, if they have the same.
fn only<'a, C: PartialEq + 'a>(classes: impl IntoIterator<Item = &'a C>) -> Option<&'a C> {
    let mut classes = classes.into_iter();
    let first = classes.next()?;
    classes.all(|class| class == first).then_some(first)
}

/// Features and classes of some rows.
fn choose(rows: &Array2<f64>, chosen: &[usize]) -> Result<(DenseMatrix<f64>, Vec<u32>), String> {
    let rows = rows.select(Axis(0), chosen);
    let features = rows.ncols() - 1;
    let classes = rows.column(features).mapv(|class| class as u32).to_vec();
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
        let mut counts = vec![BTreeMap::new(); self.tests()];
        for votes in self.each(votes) {
            for (counts, vote) in counts.iter_mut().zip(votes) {
                *counts.entry(vote).or_insert(0u32) += 1;
            }
        }
        let most = |counts: BTreeMap<u32, u32>| {
            let most = counts.into_iter().rev().max_by_key(|(_, count)| *count);
            most.map_or(0, |(class, _)| class)
        };
        counts.into_iter().map(most).collect()
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
