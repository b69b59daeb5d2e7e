use crucial::shared;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Thing {
    value: u64,
}

#[shared]
impl Thing {
    fn put(&mut self, names: &[&str]) {
        self.value = names.len() as u64;
    }
}

fn main() {}
