//! π by Monte Carlo (Listing 1 of the paper), with std threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;

use clap::Parser;
use crucial_examples::montecarlo::sample;
use crucial_examples::options::{parse, within};
use crucial_examples::say;

/// Estimates π by the share of random points in a square that are within the circle.
#[derive(Parser)]
struct Options {
    /// Number of threads
    #[arg(long, default_value_t = 100, value_parser = within(1..=1000u64))]
    threads: u64,
    /// Points for each thread
    #[arg(long, default_value_t = 10_000_000, value_parser = within(1..=u64::MAX))]
    points: u64,
}

fn estimate(points: u64, seed: u64, inside: Arc<AtomicI64>) {
    inside.fetch_add(sample(points, seed), Ordering::Relaxed);
}

fn main() {
    let Options { threads, points } = parse();
    let inside = Arc::new(AtomicI64::new(0));
    let threads: Vec<_> = (0..threads)
        .map(|seed| {
            let inside = inside.clone();
            thread::spawn(move || estimate(points, seed, inside))
        })
        .collect();
    let total = points as u128 * threads.len() as u128;
    for thread in threads {
        thread.join().expect("the thread did not panic");
    }
    let inside = inside.load(Ordering::Relaxed);
    let pi = 4.0 * inside as f64 / total as f64;
    say!("{inside} of {total} points are inside: pi is about {pi:.6}");
}
