//! Pi by Monte Carlo: cloud threads sample points, and share the tally.

use crucial::{Result, Shared, cloud, thread};
use program_name::Tally;

/// The body of a cloud thread, which runs in a process of its own.
#[cloud]
fn sample(points: u64, seed: u64, tally: Shared<Tally>) -> Result<()> {
    let mut state = seed;
    let mut random = || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    let inside = (0..points).filter(|_| {
        let (x, y) = (random(), random());
        x * x + y * y <= 1.0
    });
    let inside = inside.count() as u64;
    tally.add(points, inside) // one message
}

fn estimate(threads: u64, points: u64) -> Result<f64> {
    let tally = Shared::new(Tally::default())?;
    let handles: Vec<_> = (0..threads)
        .map(|seed| thread::spawn(sample(points, seed, tally.clone())))
        .collect();
    for handle in handles {
        handle.join()??;
    }
    tally.pi(threads * points)
}

#[crucial::main]
fn main() -> Result<()> {
    println!("pi is about {:.3}", estimate(8, 1_000_000)?);
    Ok(())
}

// Here the threads run in the process of the test, through the same serialization.
#[test]
fn four_threads_estimate_pi() {
    let pi = estimate(4, 10_000).unwrap();
    assert!((3.0..3.3).contains(&pi), "{pi}");
}
