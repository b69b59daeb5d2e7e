use crucial::{Result, Shared, cloud, thread};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Tally {
    hits: u64,
}

// #[shared] is missing.
impl Tally {
    fn hit(&mut self) {
        self.hits += 1;
    }
}

#[cloud]
fn work(tally: Shared<Tally>) -> Result<()> {
    tally.hit()
}

fn main() -> Result<()> {
    let tally = Shared::new(Tally { hits: 0 })?;
    thread::spawn(work(tally.clone())).join()?;
    tally.hit()
}

// Errors: 17
