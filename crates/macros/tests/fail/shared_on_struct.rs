use crucial::shared;
use serde::{Deserialize, Serialize};

/// Documented.
#[shared]
#[derive(Serialize, Deserialize)]
struct Thing {
    value: u64,
}

fn main() {}
