use crucial::shared;
use serde::{Deserialize, Serialize};
#[derive(Serialize, Deserialize)]
struct Thing {
    value: u64,
}

#[shared]
impl Thing {
    fn read(&self, into: &mut u64) {
        *into = self.value;
    }
}

fn main() {}
