//! How a run is.

use crucial_node::catalog::Limits;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const LIMITS: Limits = Limits {
    repeat_ms: 40,
    patience_ms: 300,
    sweep_ms: 200,
    sweep_pause_ms: 20,
    silence_ms: 60,
    pause_min_ms: 10,
    pause_max_ms: 160,
    piece_bytes: 8,
    pieces: 2,
    fetches: 2,
    requests: 6,
    request_bytes: 400,
    staged_bytes: 1 << 10,
};

/// How a run is.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub servers: u64,
    /// Of 100 messages and proposals.
    pub lost: u32,
    pub repeated: u32,
    pub damaged: u32,
    pub patience_ms: u64,
    pub delay_ms: u64,
    pub work_ms: u64,
    pub faults: usize,
    pub requests: usize,
    /// This server's disk fails now and then.
    pub bad_disk: Option<u64>,
}

impl Shape {
    pub fn of(seed: u64) -> Shape {
        let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x5a5a);
        Shape {
            servers: random.random_range(1..=4),
            lost: [0, 0, 5, 20][random.random_range(0..4)],
            repeated: [0, 5, 20][random.random_range(0..3)],
            damaged: [0, 0, 2][random.random_range(0..3)],
            patience_ms: [300, 2_000, 2_000][random.random_range(0..3)],
            delay_ms: [2, 10, 60][random.random_range(0..3)],
            work_ms: [2, 20, 80][random.random_range(0..3)],
            faults: [0, 2, 5][random.random_range(0..3)],
            requests: random.random_range(4..=16),
            bad_disk: random.random_ratio(20, 100).then_some(2),
        }
    }

    /// The catalogs' limits.
    pub fn limits(&self) -> Limits {
        Limits {
            patience_ms: self.patience_ms,
            ..LIMITS
        }
    }
}
