//! The points to cluster: from a file, generated, or the digits that come with the program.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use ndarray::Array2;
use rand::SeedableRng;
use rand_distr::{Distribution, Normal, Uniform};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};

use crate::Error;

/// 1797 handwritten digits of 8 × 8 pixels; see `data/README.md`.
static DIGITS: &[u8] = include_bytes!("../data/digits.csv.gz");

/// The source of the points. The value is small: it is sent to each thread, which loads its own part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Source {
    /// The handwritten digits, without their labels.
    Digits,
    /// A file: `.csv`, `.csv.gz` or `.npy` (two-dimensional, f64 or f32). Each row is a point.
    File(PathBuf),
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
    /// All points, one in each row.
    pub fn load(&self) -> Result<Array2<f64>, Error> {
        match self {
            Source::Digits => {
                let all = digits()?;
                let features = all.ncols() - 1;
                Ok(all.slice(ndarray::s![.., ..features]).to_owned())
            }
            Source::File(path) => load_file(path),
            Source::Generated { points, .. } => self.generate(0, *points),
        }
    }

    /// The points of part `index` of `parts`.
    pub fn part(&self, index: usize, parts: usize) -> Result<Array2<f64>, Error> {
        if let Source::Generated { points, .. } = self {
            return self.generate(index * points / parts, (index + 1) * points / parts);
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
        if dimensions == 0 || centres == 0 {
            return Err(Error::Option(
                "the points need at least one dimension and one centre".to_owned(),
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

/// The handwritten digits; the last column is the label.
pub(crate) fn digits() -> Result<Array2<f64>, Error> {
    csv_points(flate2::read::GzDecoder::new(DIGITS), "digits")
}

pub(crate) fn load_file(path: &Path) -> Result<Array2<f64>, Error> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|source| Error::File {
        path: name.clone(),
        source,
    })?;
    let reader = BufReader::new(file);
    let lower = name.to_lowercase();
    if lower.ends_with(".npy") {
        npy_points(reader, &name)
    } else if lower.ends_with(".csv.gz") {
        csv_points(flate2::read::GzDecoder::new(reader), &name)
    } else if lower.ends_with(".csv") {
        csv_points(reader, &name)
    } else {
        Err(Error::Option(format!(
            "{name}: the name must end in .csv, .csv.gz or .npy"
        )))
    }
}

pub(crate) fn csv_points(reader: impl Read, path: &str) -> Result<Array2<f64>, Error> {
    let bad = |detail: String| Error::Content {
        path: path.to_owned(),
        detail,
    };
    let mut csv = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(reader);
    let mut values = Vec::new();
    let mut columns = 0;
    for record in csv.records() {
        let record = record.map_err(|error| bad(error.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let row: Result<Vec<f64>, _> = record.iter().map(str::parse::<f64>).collect();
        match row {
            // The first line may contain names.
            Err(_) if line == 1 => continue,
            _ if columns != 0 && columns != record.len() => {
                return Err(bad(format!(
                    "line {line} has {} values, the lines before it have {columns}",
                    record.len()
                )));
            }
            Ok(row) if row.iter().all(|value| value.is_finite()) => values.extend(row),
            _ => return Err(bad(format!("line {line} is not a row of finite numbers"))),
        }
        columns = record.len();
    }
    if values.is_empty() {
        return Err(bad("no points".to_owned()));
    }
    let rows = values.len() / columns;
    Array2::from_shape_vec((rows, columns), values).map_err(|error| bad(error.to_string()))
}

fn npy_points(reader: impl Read, path: &str) -> Result<Array2<f64>, Error> {
    let bad = |detail: String| Error::Content {
        path: path.to_owned(),
        detail,
    };
    let npy = npyz::NpyFile::new(reader).map_err(|error| bad(error.to_string()))?;
    let shape = npy.shape().to_vec();
    let &[rows, columns] = &shape[..] else {
        return Err(bad(format!(
            "the array has the shape {shape:?}, and must have two dimensions"
        )));
    };
    if npy.order() != npyz::Order::C || rows == 0 || columns == 0 {
        return Err(bad(
            "the array must contain at least one point, in row-major order".to_owned(),
        ));
    }
    let narrow = npy.dtype().num_bytes() == Some(4);
    let values: Result<Vec<f64>, std::io::Error> = if narrow {
        npy.into_vec::<f32>()
            .map(|v| v.into_iter().map(f64::from).collect())
    } else {
        npy.into_vec::<f64>()
    };
    let values = values.map_err(|error| bad(error.to_string()))?;
    Array2::from_shape_vec((rows as usize, columns as usize), values)
        .map_err(|error| bad(error.to_string()))
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

    #[test]
    fn a_bad_line_is_named() {
        let read = |text: &str| csv_points(text.as_bytes(), "file");
        assert_eq!(read("x,y\n1,2\n3,4\n").unwrap().dim(), (2, 2));
        for (text, expected) in [
            ("1,2\n3,oops\n", "line 2"),
            ("1,2\n3\n", "line 2 has 1 values"),
            ("", "no points"),
            ("1,inf\n", "line 1"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn npy_files_are_read() {
        use npyz::WriterBuilder;
        let mut bytes = Vec::new();
        let options = npyz::WriteOptions::new().default_dtype().shape(&[2, 3]);
        let mut writer = options.writer(&mut bytes).begin_nd().unwrap();
        writer.extend([1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        writer.finish().unwrap();
        let points = npy_points(&bytes[..], "file").unwrap();
        assert_eq!(points, ndarray::array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    }
}
