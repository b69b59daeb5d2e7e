//! A program whose threads share an object of its own type.

use crucial::{Shared, cloud, thread};
use crucial_test_program::Tally;

#[cloud]
fn work(part: u64, tally: Shared<Tally>) -> crucial::Result<()> {
    tally.add(part * part)
}

#[crucial::main]
fn main() -> crucial::Result<()> {
    let word = std::env::args().nth(1).unwrap_or_default();
    let tally = Shared::new(Tally::default())?;
    for outcome in thread::map(0..4, |part| work(part, tally.clone()))? {
        outcome?;
    }
    let (seen, largest) = tally.get()?;
    println!("{word}: {seen} parts, the largest {largest}");
    Ok(())
}
