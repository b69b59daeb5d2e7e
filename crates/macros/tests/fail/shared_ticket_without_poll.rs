use crucial::shared;
use serde::{Deserialize, Serialize};
#[derive(Serialize, Deserialize)]
struct Thing {
    value: u64,
}

#[shared]
impl Thing {
    fn wait(&mut self, #[ticket] t: &mut Option<u64>) -> u64 {
        self.value
    }
}

fn main() {}
