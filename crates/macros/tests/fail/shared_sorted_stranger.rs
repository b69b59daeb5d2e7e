use crucial::shared;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Thing {
    value: u64,
}

#[shared(sorted(K))]
impl Thing {
    fn get(&self) -> u64 {
        self.value
    }
}

fn main() {}
