use std::task::Poll;

use crucial::{Result, Shared, shared};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Thing {
    value: u64,
}

#[shared]
impl Thing {
    fn good(&self) -> u64 {
        self.value
    }

    fn by_value(self) -> u64 {
        self.value
    }

    fn two(&mut self, (a, b): (u64, u64), c: &mut u64) {
        *c = a + b;
    }

    async fn later(&self, #[ticket] ticket: &mut Option<u64>) {
        *ticket = None;
    }

    #[wake]
    fn one(&self) -> crucial::Wake {
        crucial::Wake::All
    }

    #[wake]
    fn other(&self) -> crucial::Wake {
        crucial::Wake::All
    }

    fn waits(&self) -> Poll<&str> {
        Poll::Pending
    }
}

fn main() -> Result<()> {
    // What is not refused is there.
    let thing = Shared::new(Thing::default())?;
    let value: u64 = thing.good()?;
    println!("{value}");
    Ok(())
}

// Errors: 7
