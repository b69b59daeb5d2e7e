use crucial::shared;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Thing {
    value: u64,
}

#[shared]
impl Thing {
    fn put(&mut self, #[caller] who: u64) {
        self.value = who;
    }
}

fn main() {}
