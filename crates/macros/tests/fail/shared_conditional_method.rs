use crucial::shared;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Thing {
    value: u64,
}

#[shared]
impl Thing {
    #[cfg(target_os = "none")]
    fn put(&mut self, value: u64) {
        self.value = value;
    }
}

fn main() {}
