use std::task::Poll;

use crucial::shared;
use serde::{Deserialize, Serialize};
#[derive(Serialize, Deserialize)]
struct Thing {
    value: u64,
}

#[shared]
impl Thing {
    fn wait(&mut self, #[ticket] t: &mut Option<u64>, more: u64) -> Poll<u64> {
        Poll::Ready(more)
    }
}

fn main() {}
