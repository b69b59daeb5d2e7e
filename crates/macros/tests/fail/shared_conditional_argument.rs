use crucial::shared;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Thing {
    value: u64,
}

#[shared]
impl Thing {
    fn put(&mut self, #[cfg(target_os = "none")] value: u64) {
        self.value += 1;
    }
}

fn main() {}
