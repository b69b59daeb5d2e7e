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

/// SplitMix64: the same inputs at each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

const INPUTS: usize = 5_000;

#[test]
fn cells_survive_random_calls() {
    let mut random = Random(3);
    for _ in 0..INPUTS {
        let length = random.below(600);
        hostile_input::cell_args(&random.bytes(length));
    }
}

#[test]
fn cells_survive_random_calls_with_arguments_that_fit() {
    let mut random = Random(4);
    for _ in 0..INPUTS {
        // Type, sound state; then session, a call, how far back, a method, arguments.
        let mut input = vec![random.next() as u8, 1];
        for _ in 0..random.below(60) {
            let numbers = [random.next() % 3, random.next() % 3];
            let count = random.below(3);
            let args = encode(&numbers[..count]).unwrap().split_off(1);
            input.extend(random.bytes(4));
            input.push(args.len() as u8);
            input.extend(args);
        }
        hostile_input::cell_args(&input);
    }
}
