//! Samples of durations.

use std::time::{Duration, Instant};

/// Measured durations.
#[derive(Default)]
pub struct Sample {
    times: Vec<Duration>,
    /// The median of each round.
    medians: Vec<Duration>,
}

impl Sample {
    /// Measures a round: runs `f` this number of times, and records each duration.
    pub fn measure<E>(
        &mut self,
        count: usize,
        mut f: impl FnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        let first = self.times.len();
        self.times.reserve(count);
        for _ in 0..count {
            let start = Instant::now();
            f()?;
            self.times.push(start.elapsed());
        }
        let mut round = self.times[first..].to_vec();
        round.sort_unstable();
        self.medians.extend(round.get(count / 2));
        Ok(())
    }

    /// The percentile of all durations, in microseconds.
    pub fn percentile_us(&self, percent: usize) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        let last = times.len().saturating_sub(1);
        times
            .get(last * percent / 100)
            .map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    }

    /// The p50 as a multiple of `peer`'s, whose rounds alternated with these. The result is the median over all rounds, so
    /// that noise from other processes in some rounds changes little.
    pub fn ratio(&self, peer: &Sample) -> f64 {
        let rounds = self.medians.iter().zip(&peer.medians);
        let mut ratios: Vec<f64> = rounds
            .map(|(ours, theirs)| ours.as_secs_f64() / theirs.as_secs_f64())
            .collect();
        ratios.sort_unstable_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Prints a line of a table, without a peer.
    pub fn print(&self, what: &str) {
        println!(
            "{what:44} {:>9.1} {:>9.1}",
            self.percentile_us(50),
            self.percentile_us(99)
        );
    }

    /// Prints a line of a table, with the ratio to a peer.
    pub fn print_beside(&self, what: &str, peer: &Sample) {
        println!(
            "{what:44} {:>9.1} {:>9.1} {:>8.2}×",
            self.percentile_us(50),
            self.percentile_us(99),
            self.ratio(peer)
        );
    }
}

/// Prints the head of the table.
pub fn print_head(ratio: &str) {
    println!("{:44} {:>9} {:>9} {ratio:>9}", "", "p50 µs", "p99 µs");
}

/// Prints the command that makes this table and the machine's number of cores.
pub fn command() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "cargo run --release -p crucial-bench -- {}   ({cores} cores)",
        arguments.join(" ")
    )
}
