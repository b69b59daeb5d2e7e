use crucial::shared;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Thing {
    value: u64,
}

#[shared]
impl Thing {
    fn put(&mut self, #[caller] who: crucial::SessionId, value: u64) {
        self.value = value + who.0;
    }
}

fn main() {}
