//! Random points in the unit square.

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// How many of `points` random points in the unit square are within the quarter circle.
pub fn sample(points: u64, seed: u64) -> i64 {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut inside = 0;
    for _ in 0..points {
        let (x, y): (f64, f64) = (random.random(), random.random());
        inside += i64::from(x * x + y * y <= 1.0);
    }
    inside
}

#[cfg(test)]
mod tests {
    #[test]
    fn about_a_quarter_of_pi() {
        let inside = super::sample(1_000_000, 1) as f64;
        assert!((4.0 * inside / 1e6 - std::f64::consts::PI).abs() < 0.01);
    }
}
