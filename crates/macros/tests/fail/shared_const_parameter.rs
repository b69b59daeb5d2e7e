use crucial::shared;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Thing<const N: usize> {
    value: u64,
}

#[shared]
impl<const N: usize> Thing<N> {
    fn get(&self) -> u64 {
        self.value
    }
}

fn main() {}
