use crucial::shared;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Thing {
    value: u64,
}

#[shared]
impl Thing {
    fn take(self: Box<Self>) -> u64 {
        self.value
    }
}

fn main() {}
