use crucial::shared;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Thing {
    value: u64,
}

#[shared]
impl Thing {
    fn values(&self) -> impl Iterator<Item = u64> {
        std::iter::once(self.value)
    }
}

fn main() {}
