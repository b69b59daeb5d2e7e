use crucial::shared;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Thing<T> {
    value: T,
}

#[shared]
impl<T: Clone> Thing<T> {
    fn get(&self) -> T {
        self.value.clone()
    }
}

fn main() {}

// Errors: 3
