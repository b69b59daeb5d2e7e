use crucial::shared;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Thing {
    value: u64,
}

#[shared]
impl Thing {
    #[departed]
    fn gone(&mut self, _: crucial::SessionId) {}

    #[departed]
    fn left(&mut self, _: crucial::SessionId) {}
}

fn main() {}
