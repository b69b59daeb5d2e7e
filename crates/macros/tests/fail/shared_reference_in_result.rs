use crucial::shared;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Thing {
    value: u64,
}

#[shared]
impl Thing {
    fn text(&self) -> Option<&u64> {
        Some(&self.value)
    }
}

fn main() {}
