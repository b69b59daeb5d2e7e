use crucial::shared;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Thing {
    value: u64,
}

#[shared]
impl Thing {
    #[wake]
    fn first(&self) -> crucial::Wake {
        crucial::Wake::First
    }

    #[wake]
    fn second(&self) -> crucial::Wake {
        crucial::Wake::First
    }
}

fn main() {}
