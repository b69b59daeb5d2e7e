use crucial::shared;
use serde::{Deserialize, Serialize};

struct Socket;

#[derive(Serialize, Deserialize)]
struct Thing {
    value: u64,
}

#[shared]
impl Thing {
    fn send(&mut self, socket: Socket) {
        let _ = socket;
        self.value += 1;
    }
}

fn main() {}
