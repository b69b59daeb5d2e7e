//! Primes by a sieve, whose segments are sieved by threads of a scope, each in its own part of one vector.

use crucial::std;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const LIMIT: usize = 100_000;
const SEGMENTS: usize = 4;

fn small_primes(limit: usize) -> Vec<usize> {
    let mut composite = vec![false; limit + 1];
    let mut primes = Vec::new();
    for n in 2..=limit {
        if !composite[n] {
            primes.push(n);
            for multiple in (n * n..=limit).step_by(n) {
                composite[multiple] = true;
            }
        }
    }
    primes
}

#[crucial::cloud]
fn sieve(segment: &mut [bool], start: usize, primes: &[usize], count: &AtomicUsize) {
    for &prime in primes {
        let first = start.div_ceil(prime).max(prime) * prime;
        for multiple in (first..start + segment.len()).step_by(prime) {
            segment[multiple - start] = true;
        }
    }
    let found = (start..).zip(segment.iter());
    let found = found
        .filter(|(n, composite)| *n > 1 && !**composite)
        .count();
    count.fetch_add(found, Ordering::Relaxed);
}

#[crucial::main]
fn main() {
    let primes = small_primes(LIMIT.isqrt());
    let mut composite = vec![false; LIMIT];
    let count = AtomicUsize::new(0);
    let length = LIMIT.div_ceil(SEGMENTS);
    thread::scope(|scope| {
        for (index, segment) in composite.chunks_mut(length).enumerate() {
            let (primes, count) = (&primes, &count);
            scope.spawn(move || sieve(segment, index * length, primes, count));
        }
    });
    let last = (0..LIMIT).rev().find(|&n| !composite[n]).unwrap();
    println!(
        "{} primes below {LIMIT}, the last is {last}",
        count.into_inner()
    );
    assert_eq!(
        composite[2..]
            .iter()
            .filter(|composite| !**composite)
            .count(),
        9592
    );
}
