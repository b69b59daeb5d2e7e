use crucial::shared;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Sum<T> {
    total: T,
}

#[shared]
impl<T: Copy + std::ops::Add<Output = T>> Sum<T> {
    fn add(&mut self, value: T) {
        self.total = self.total + value;
    }
}

fn main() {}
