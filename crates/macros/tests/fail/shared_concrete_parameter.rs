use crucial::shared;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Thing<T> {
    value: T,
}

#[shared]
impl Thing<u64> {
    fn get(&self) -> u64 {
        self.value
    }
}

fn main() {}
