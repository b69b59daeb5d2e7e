use crucial::shared;
use serde::{Deserialize, Serialize};
#[derive(Serialize, Deserialize)]
struct Thing {
    value: u64,
}

#[shared]
impl Thing {
    fn put<T: Into<u64>>(&mut self, value: T) {
        self.value = value.into();
    }
}

fn main() {}
