use crucial::shared;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Thing;

#[shared(persistent)]
impl Thing {}

fn main() {}
