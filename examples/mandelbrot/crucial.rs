//! The Mandelbrot set as a picture, with cloud threads: a parallel loop over its rows.

use std::ops::Range;
use std::path::PathBuf;

use clap::Parser;
use crucial::{Result, cloud, thread};
use crucial_examples::mandelbrot::{check, render, write_png};
use crucial_examples::options::{parse, within};
use crucial_examples::say;

/// Draws the Mandelbrot set.
#[derive(Parser)]
struct Options {
    /// Height and width, in pixels
    #[arg(long, default_value_t = 1000, value_parser = within(1..=65_535u64))]
    size: u64,
    /// Number of threads
    #[arg(long, default_value_t = 8, value_parser = within(1..=1000u64))]
    threads: u64,
    /// Iterations after which a point counts as inside
    #[arg(long, default_value_t = 1000, value_parser = within(1..=u32::MAX))]
    iterations: u32,
    /// The picture to write
    #[arg(long, default_value = "mandelbrot.png")]
    out: PathBuf,
}

#[cloud]
fn part(rows: Range<u64>, size: u64, iterations: u32) -> Vec<u8> {
    render(rows, size, iterations)
}

#[crucial::main]
fn main() -> Result<()> {
    let options: Options = parse();
    let (size, threads, iterations) = (options.size, options.threads, options.iterations);
    check(size)?;
    let parts = thread::parallel_for(0..size, threads as usize, |rows| {
        part(rows, size, iterations)
    })?;
    let pixels = parts.concat();
    write_png(&options.out, size, &pixels)?;
    say!("wrote {}", options.out.display());
    Ok(())
}
