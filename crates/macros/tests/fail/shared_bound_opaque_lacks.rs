use crucial::collections::Map;
use crucial::{Element, shared};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(bound(serialize = "T: Element", deserialize = "T: Element"))]
struct Sum<T> {
    parts: Map<u64, T>,
}

#[shared]
impl<T: Copy> Sum<T> {
    fn put_part(&mut self, value: T) {
        self.parts.insert(0, value);
    }
}

fn main() {}

// Errors: 2
