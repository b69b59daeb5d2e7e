use crucial::{Element, shared};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Old;

#[derive(Serialize, Deserialize)]
struct Thing<T> {
    values: Vec<T>,
}

#[shared(previous = Old)]
impl<T: Element> Thing<T> {
    fn len(&self) -> u64 {
        self.values.len() as u64
    }
}

fn main() {}
