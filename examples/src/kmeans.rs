//! k-means (Lloyd's algorithm): the kernel. The state of a step is in the crate of the shared types.

use std::io::Write;
use std::path::Path;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};
use rand::SeedableRng;
use rand::seq::index::sample;
use rand_xoshiro::Xoshiro256PlusPlus;

pub use crucial_example_types::kmeans::{Partial, Step};

use crate::points::check_centres;
use crate::{Error, say};

/// Number of points that are compared with the centroids at a time, so that they stay in the cache.
const BLOCK: usize = 256;

/// Chooses `k` distinct points at random.
pub fn initial(points: &Array2<f64>, k: usize, seed: u64) -> Result<Vec<f64>, Error> {
    check_centres(k, points.nrows())?;
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let chosen = sample(&mut random, points.nrows(), k).into_vec();
    Ok(points.select(Axis(0), &chosen).into_raw_vec_and_offset().0)
}

/// Assigns each point to its nearest centroid. The distance is computed as |x|² − 2 x·c + |c|², so that most of the
/// work is a product of matrices; with the middle of the centroids as the origin, since the squares of coordinates that
/// are far from it cancel each other with all digits. Where they do so anyway, distances are sums of squared differences.
pub fn assign(points: ArrayView2<'_, f64>, centroids: &[f64]) -> Partial {
    let dimensions = points.ncols();
    let k = centroids.len() / dimensions;
    let all = ArrayView2::from_shape((k, dimensions), centroids)
        .expect("centroids have the dimensions of the points");
    let origin = all.mean_axis(Axis(0)).expect("there is a centroid");
    let centred = &all - &origin;
    let squares: Array1<f64> = centred.rows().into_iter().map(|c| c.dot(&c)).collect();
    let largest = squares.fold(0.0, |most: f64, square| most.max(*square));
    let mut partial = Partial {
        sums: vec![0.0; k * dimensions],
        counts: vec![0; k],
        inertia: 0.0,
    };
    let mut distances = Array2::zeros((BLOCK, k));
    let mut shifted = Array2::zeros((BLOCK, dimensions));
    for block in points.axis_chunks_iter(Axis(0), BLOCK) {
        let mut distances = distances.slice_mut(s![..block.nrows(), ..]);
        let mut shifted = shifted.slice_mut(s![..block.nrows(), ..]);
        shifted.assign(&block);
        shifted -= &origin;
        distances.assign(&squares);
        ndarray::linalg::general_mat_mul(-2.0, &shifted, &centred.t(), 1.0, &mut distances);
        for ((point, shifted), distances) in block
            .rows()
            .into_iter()
            .zip(shifted.rows())
            .zip(distances.rows())
        {
            let (mut nearest, mut least, mut second) = (0, f64::INFINITY, f64::INFINITY);
            for (cluster, distance) in distances.iter().enumerate() {
                if *distance < least {
                    (nearest, second, least) = (cluster, least, *distance);
                } else if *distance < second {
                    second = *distance;
                }
            }
            let uncertain = ROUNDING * (shifted.dot(&shifted) + largest);
            if second - least <= uncertain {
                nearest = nearest_by_differences(point, all);
            }
            partial.inertia += squared_distance(point, all.row(nearest));
            partial.counts[nearest] += 1;
            let sum = &mut partial.sums[nearest * dimensions..][..dimensions];
            for (total, value) in sum.iter_mut().zip(point) {
                *total += value;
            }
        }
    }
    partial
}

/// How wrong the difference of two distances may be, as a part of the squares that they are made of. (A sum of d products
/// is wrong by at most d units in the last place, and mostly by much less.)
const ROUNDING: f64 = 64.0 * f64::EPSILON;

fn squared_distance(point: ArrayView1<'_, f64>, centroid: ArrayView1<'_, f64>) -> f64 {
    let pairs = point.iter().zip(centroid);
    pairs.map(|(a, b)| (a - b) * (a - b)).sum()
}

fn nearest_by_differences(point: ArrayView1<'_, f64>, centroids: ArrayView2<'_, f64>) -> usize {
    let distances = centroids
        .rows()
        .into_iter()
        .map(|centroid| squared_distance(point, centroid));
    let nearest = distances
        .enumerate()
        .min_by(|(_, a), (_, b)| a.total_cmp(b));
    nearest.map_or(0, |(cluster, _)| cluster)
}

/// Prints the inertia of each step and the sizes of the clusters.
pub fn report(history: &[f64], counts: &[u64]) {
    for (step, inertia) in history.iter().enumerate() {
        say!("step {:3}: inertia {inertia:.6}", step + 1);
    }
    say!("cluster sizes: {counts:?}");
}

/// Writes the centroids as CSV, one per line, with full precision.
pub fn write_centroids(path: &Path, centroids: &[f64], dimensions: usize) -> Result<(), Error> {
    let mut text = String::new();
    for centroid in centroids.chunks(dimensions) {
        let values: Vec<String> = centroid.iter().map(|value| format!("{value:?}")).collect();
        text.push_str(&values.join(","));
        text.push('\n');
    }
    let written = std::fs::File::create(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| Error::File {
        path: path.display().to_string(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::points::Source;

    fn naive(points: &Array2<f64>, centroids: &[f64]) -> Partial {
        let dimensions = points.ncols();
        let k = centroids.len() / dimensions;
        let mut partial = Partial {
            sums: vec![0.0; centroids.len()],
            counts: vec![0; k],
            inertia: 0.0,
        };
        for point in points.rows() {
            let distance = |c: usize| -> f64 {
                let centroid = &centroids[c * dimensions..][..dimensions];
                point
                    .iter()
                    .zip(centroid)
                    .map(|(a, b)| (a - b) * (a - b))
                    .sum()
            };
            let nearest = (0..k)
                .min_by(|a, b| distance(*a).total_cmp(&distance(*b)))
                .unwrap();
            partial.inertia += distance(nearest);
            partial.counts[nearest] += 1;
            for (sum, value) in partial.sums[nearest * dimensions..].iter_mut().zip(point) {
                *sum += value;
            }
        }
        partial
    }

    #[test]
    fn the_kernel_agrees_with_the_plain_loop() {
        let points = Source::Digits.load().unwrap();
        let centroids = initial(&points, 10, 1).unwrap();
        let (fast, slow) = (
            assign(points.view(), &centroids),
            naive(&points, &centroids),
        );
        assert_eq!(fast.counts, slow.counts);
        assert!((fast.inertia - slow.inertia).abs() < 1e-6 * slow.inertia);
        assert_eq!(fast.sums, slow.sums);
    }

    #[test]
    fn points_far_from_zero_have_the_clusters_of_points_that_are_not() {
        // Seconds since 1970, in two groups 20 s apart; and groups that are far from each other as well.
        let near: Vec<f64> = [0.0, 1.0, 2.0, 3.0, 20.0, 21.0, 22.0, 23.0].to_vec();
        for offset in [0.0, 1.7e9, -1.7e9] {
            let points = near.iter().map(|x| x + offset).collect();
            let points = Array2::from_shape_vec((8, 1), points).unwrap();
            let partial = assign(points.view(), &[1.0 + offset, 22.0 + offset]);
            assert_eq!(partial.counts, [4, 4], "{offset}");
            assert_eq!(partial.inertia, 12.0, "{offset}");
        }
        let points = Array2::from_shape_vec((4, 1), vec![0.0, 1.7e9, 1.7e9 + 20.0, 1.7e9 + 21.0]);
        let partial = assign(points.unwrap().view(), &[0.0, 1.7e9, 1.7e9 + 20.0]);
        assert_eq!((partial.counts, partial.inertia), (vec![1, 1, 2], 1.0));
    }

    #[test]
    fn the_order_of_contributions_does_not_matter() {
        let points = Source::Digits.load().unwrap();
        let start = initial(&points, 10, 1).unwrap();
        let partials: Vec<_> = (0..5)
            .map(|i| assign(Source::Digits.part(i, 5).unwrap().view(), &start))
            .collect();
        let (mut up, mut down) = (Step::new(start.clone(), 5), Step::new(start, 5));
        for i in 0..5 {
            up.contribute(i as u64, partials[i].clone());
            down.contribute(4 - i as u64, partials[4 - i].clone());
        }
        assert_eq!(up.centroids(), down.centroids());
    }

    #[test]
    fn a_wrong_number_of_clusters_is_refused() {
        let points = Source::Digits.load().unwrap();
        assert!(initial(&points, 0, 1).is_err());
        assert!(initial(&points, 1798, 1).is_err());
    }
}
