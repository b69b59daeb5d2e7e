use crucial::shared;
use serde::{Deserialize, Serialize};
#[derive(Serialize, Deserialize)]
struct Thing {
    value: u64,
}

#[shared]
impl Thing {
    fn put(&mut self, (a, b): (u64, u64)) {
        self.value = a + b;
    }
}

fn main() {}
