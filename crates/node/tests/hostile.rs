//! The fuzz target's harness, on a few thousand pseudo-random inputs: random bytes, and calls with arguments
//! that fit.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::disallowed_macros,
    reason = "a test has the world that the node has not"
)]

mod hostile_input;

use crucial_object::encode;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const INPUTS: usize = 5_000;

fn bytes(random: &mut ChaCha8Rng, length: usize) -> Vec<u8> {
    random.random_iter().take(length).collect()
}

#[test]
fn cells_survive_random_calls() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    for _ in 0..INPUTS {
        let length = random.random_range(0..600);
        hostile_input::cell_args(&bytes(&mut random, length));
    }
}

#[test]
fn cells_survive_random_calls_with_arguments_that_fit() {
    let mut random = ChaCha8Rng::seed_from_u64(4);
    for _ in 0..INPUTS {
        // Type, sound state; then session, a call, how far back, a method, arguments.
        let mut input = vec![random.random(), 1];
        for _ in 0..random.random_range(0..60) {
            let numbers = [random.random_range(0..3u64), random.random_range(0..3u64)];
            let count = random.random_range(0..3);
            let args = encode(&numbers[..count]).unwrap().split_off(1);
            input.extend(bytes(&mut random, 4));
            input.push(args.len() as u8);
            input.extend(args);
        }
        hostile_input::cell_args(&input);
    }
}
