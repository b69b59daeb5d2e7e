use crucial::shared;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Thing {
    value: u64,
}

#[shared]
impl Thing {
    // Their FNV-1a hashes are the same.
    fn costarring(&self) -> u64 {
        self.value
    }

    fn liquid(&self) -> u64 {
        self.value
    }
}

fn main() {}
