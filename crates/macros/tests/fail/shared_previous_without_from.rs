use crucial::shared;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Old {
    count: u32,
}

#[derive(Serialize, Deserialize)]
struct Thing {
    count: u64,
}

#[shared(previous = Old)]
impl Thing {
    fn count(&self) -> u64 {
        self.count
    }
}

fn main() {}
