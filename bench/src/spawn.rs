//! P13: the time to start a cloud thread and get its result.

use clap::Args;
use crucial::{cloud, thread};

use crate::Error;
use crate::sample::{Sample, print_head};

#[derive(Args)]
pub struct Options {
    /// Number of warm threads, one after the other
    #[arg(long, default_value_t = 2000)]
    threads: usize,
    /// Exit with an error if a warm spawn and join takes longer than this, in microseconds (p50); 1000 by default
    #[arg(long, value_name = "MICROSECONDS", num_args = 0..=1, default_missing_value = "1000")]
    check: Option<f64>,
}

#[cloud]
fn nothing() {}

/// Measures. Returns whether the goal is met.
pub fn run(options: &Options) -> Result<bool, Error> {
    let mut cold = Sample::default();
    // A worker serves only one memory size, so that each new size needs a new worker.
    let mut memory_mb = 1000;
    thread::spawn(nothing()).join()?;
    cold.measure(50, || {
        memory_mb += 1;
        let thread = thread::Builder::new().memory_mb(memory_mb);
        thread.spawn(nothing())?.join()
    })?;
    let mut warm = Sample::default();
    warm.measure(options.threads, || thread::spawn(nothing()).join())?;
    print_head("");
    cold.print("spawn and join, cold (a new process)");
    warm.print("spawn and join, warm");
    let p50 = warm.percentile_us(50);
    println!("\nWarm: {p50:.0} µs (p50; goal ≤ 1000, wished ≤ 300)");
    Ok(options.check.is_none_or(|goal| p50 <= goal))
}
