use crucial::shared;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Thing {
    value: u64,
}

#[shared]
impl Thing {
    fn now(&self) -> std::time::Instant {
        std::time::Instant::now()
    }
}

fn main() {}
