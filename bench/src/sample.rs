//! Samples of a time.

use std::time::{Duration, Instant};

/// Times, to be looked at by rank.
#[derive(Default)]
pub struct Sample(Vec<Duration>);

impl Sample {
    /// Runs `f` so many times, and adds the time of each.
    pub fn measure<E>(
        &mut self,
        count: usize,
        mut f: impl FnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        self.0.reserve(count);
        for _ in 0..count {
            let start = Instant::now();
            f()?;
            self.0.push(start.elapsed());
        }
        Ok(())
    }

    /// The time that this percentage of all does not exceed, in microseconds.
    pub fn percentile_us(&mut self, percent: usize) -> f64 {
        self.0.sort_unstable();
        let last = self.0.len().saturating_sub(1);
        self.0
            .get(last * percent / 100)
            .map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    }

    /// Prints a line of a table.
    pub fn print(&mut self, what: &str) {
        println!(
            "{what:44} {:>9.1} {:>9.1}",
            self.percentile_us(50),
            self.percentile_us(99)
        );
    }
}

/// Prints the head of the table.
pub fn print_head() {
    println!("{:44} {:>9} {:>9}", "", "p50 µs", "p99 µs");
}
