//! The points to cluster: from a file, generated, or the digits that come with the program.

use ndarray::Array2;
use rand::SeedableRng;
use rand_distr::{Distribution, Normal, Uniform};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};

use crate::paths::SentPath;
use crate::table::{self, Table};
use crate::{Error, memory};

/// 1797 handwritten digits of 8 × 8 pixels; see `data/README.md`.
static DIGITS: &[u8] = include_bytes!("../data/digits.csv.gz");

/// The source of the points. The value is small: it is sent to each thread, which loads its own part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Source {
    /// The handwritten digits, without their labels.
    Digits,
    /// A file: `.csv`, `.csv.gz` or `.npy` (two-dimensional). Each row is a point.
    File(SentPath),
    /// A mixture of Gaussians around random centres, as spark-perf generates.
    Generated {
        /// Number of points.
        points: usize,
        /// Number of dimensions.
        dimensions: usize,
        /// Number of centres.
        centres: usize,
        /// Seed.
        seed: u64,
    },
}

impl Source {
    /// All points, one in each row; with what there is to be said about the file.
    pub fn load_and_note(&self) -> Result<(Array2<f64>, Option<String>), Error> {
        match self {
            Source::File(path) => {
                let table = table::load(&path.0)?;
                check_range(&table).map_err(|detail| Error::Content {
                    path: path.0.display().to_string(),
                    detail,
                })?;
                Ok((table.values, table.note))
            }
            source => Ok((source.load()?, None)),
        }
    }

    /// All points, one in each row.
    pub fn load(&self) -> Result<Array2<f64>, Error> {
        match self {
            Source::Digits => {
                let all = digits()?.values;
                let features = all.ncols() - 1;
                Ok(all.slice(ndarray::s![.., ..features]).to_owned())
            }
            Source::File(path) => Ok(table::load(&path.0)?.values),
            Source::Generated {
                points,
                dimensions,
                centres,
                ..
            } => {
                check_centres(*centres, *points)?;
                let what = || format!("{points} points of {dimensions} dimensions");
                memory::check(what, memory::of_numbers(&[*points, *dimensions]))?;
                self.generate(0, *points)
            }
        }
    }

    /// The points of part `index` of `parts`.
    pub fn part(&self, index: usize, parts: usize) -> Result<Array2<f64>, Error> {
        if let Source::Generated { points, .. } = self {
            let bound = |index: usize| (index as u128 * *points as u128 / parts as u128) as usize;
            return self.generate(bound(index), bound(index + 1));
        }
        let all = self.load()?;
        let (start, end) = (
            index * all.nrows() / parts,
            (index + 1) * all.nrows() / parts,
        );
        Ok(all.slice(ndarray::s![start..end, ..]).to_owned())
    }

    fn generate(&self, start: usize, end: usize) -> Result<Array2<f64>, Error> {
        let Source::Generated {
            dimensions,
            centres,
            seed,
            ..
        } = *self
        else {
            unreachable!("the points are generated");
        };
        if dimensions == 0 {
            return Err(Error::Option(
                "the points need at least one dimension".to_owned(),
            ));
        }
        let uniform = Uniform::new(-1.0, 1.0).map_err(|e| Error::Option(e.to_string()))?;
        let normal = Normal::new(0.0, 0.1).map_err(|e| Error::Option(e.to_string()))?;
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let centre =
            Array2::from_shape_simple_fn((centres, dimensions), || uniform.sample(&mut random));
        let mut points = Array2::zeros((end - start, dimensions));
        for (row, mut point) in (start..end).zip(points.rows_mut()) {
            // Each point has its own seed, so that the points do not depend on the partition.
            let mut random = Xoshiro256PlusPlus::seed_from_u64(seed ^ (row as u64 + 1) << 20);
            for (value, middle) in point.iter_mut().zip(centre.row(row % centres)) {
                *value = middle + normal.sample(&mut random);
            }
        }
        Ok(points)
    }
}

/// Refuses a number of clusters that these points cannot have.
pub(crate) fn check_centres(centres: usize, points: usize) -> Result<(), Error> {
    if (1..=points).contains(&centres) {
        return Ok(());
    }
    Err(Error::Option(format!(
        "{centres} clusters of {points} points: the number must be between 1 and the number of points"
    )))
}

/// The largest coordinate: the sum of as many squared distances as there can be is a number.
const COORDINATE_MAX: f64 = 1e140;

/// The smallest difference of which the square is a number, with all its digits.
const DIFFERENCE_MIN: f64 = 1e-140;

/// Refuses points whose distances, which are squared, are infinite or all 0.
fn check_range(table: &Table) -> Result<(), String> {
    let values = &table.values;
    let mut all = values.indexed_iter();
    if let Some(((row, column), value)) = all.find(|(_, value)| value.abs() > COORDINATE_MAX) {
        let place = table.place(row, column);
        return Err(format!(
            "{place}: {value:e} is not between -{COORDINATE_MAX:e} and {COORDINATE_MAX:e}, as a number must be whose \
             distances are squared: divide all values by a large number"
        ));
    }
    let mut extents = Vec::new();
    for column in values.columns() {
        let (least, most) = column.fold(
            (f64::INFINITY, f64::NEG_INFINITY),
            |(least, most), value| (value.min(least), value.max(most)),
        );
        extents.push(most - least);
    }
    let extent = extents.into_iter().fold(0.0, f64::max);
    if extent > 0.0 && extent < DIFFERENCE_MIN {
        return Err(format!(
            "all values of a column are within {extent:e}, and distances below {DIFFERENCE_MIN:e} cannot be squared: \
             multiply all values by a large number"
        ));
    }
    Ok(())
}

/// The handwritten digits; the last column is the label.
pub(crate) fn digits() -> Result<Table, Error> {
    table::csv(&table::unpack(DIGITS, "digits")?, "digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digits_are_there() {
        let digits = Source::Digits.load().unwrap();
        assert_eq!(digits.dim(), (1797, 64));
        assert!(digits.iter().all(|pixel| (0.0..=16.0).contains(pixel)));
    }

    #[test]
    fn points_whose_distances_are_no_numbers_are_refused() {
        let check = |text: &str| check_range(&table::csv(text.as_bytes(), "file").unwrap());
        for text in ["x,y\n1,2\n3,1e141\n", "1,2\n1,-1e308\n3,4\n"] {
            let said = check(text).unwrap_err();
            assert!(said.contains("line ") && said.contains("1e140"), "{said}");
        }
        assert!(check("1e-170\n3e-170\n").unwrap_err().contains("e-170"));
        for text in ["1e140,1\n-1e140,1\n", "1e-170\n1\n", "0\n0\n", "5\n5\n"] {
            check(text).unwrap();
        }
    }

    #[test]
    fn parts_make_the_whole() {
        let made = Source::Generated {
            points: 101,
            dimensions: 3,
            centres: 4,
            seed: 7,
        };
        for source in [Source::Digits, made] {
            let whole = source.load().unwrap();
            let parts: Vec<_> = (0..4).map(|i| source.part(i, 4).unwrap()).collect();
            let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
            assert_eq!(
                ndarray::concatenate(ndarray::Axis(0), &views).unwrap(),
                whole
            );
        }
    }
}
