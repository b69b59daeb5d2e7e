//! The fuzz target's harness, on a few thousand pseudo-random inputs: random bytes, and valid
//! frames with a few bytes changed.

mod hostile_input;

use crucial_object::{ObjectId, Sequence};

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
fn frames_survive_random_bytes() {
    let mut random = Random(1);
    for _ in 0..INPUTS {
        let length = random.below(300);
        hostile_input::frame(&random.bytes(length));
    }
}

#[test]
fn frames_survive_changed_frames() {
    let mut random = Random(2);
    for _ in 0..INPUTS {
        let mut stream = random.bytes(1);
        for _ in 0..1 + random.below(4) {
            let (length, sequence) = (random.below(40), Sequence(1 + random.next() % 9));
            let bytes = random.bytes(length);
            let object = ObjectId([7; 16]);
            let error = crucial_object::Error::Other("why".to_owned());
            match random.below(3) {
                0 => crucial_core::frame::write_cancel(sequence, object, &mut stream),
                1 => crucial_core::frame::write_reply(sequence, Ok(&bytes), &mut stream),
                _ => crucial_core::frame::write_reply(sequence, Err(&error), &mut stream),
            }
            .unwrap();
        }
        for _ in 0..random.below(4) {
            let position = random.below(stream.len());
            stream[position] = random.next() as u8;
        }
        hostile_input::frame(&stream);
    }
}
