//! The Mandelbrot set as a picture, with std threads: a parallel loop over its rows.

use std::path::PathBuf;
use std::thread;

use clap::Parser;
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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options: Options = parse();
    let (size, threads, iterations) = (options.size, options.threads, options.iterations);
    check(size)?;
    let threads: Vec<_> = (0..threads)
        .map(|i| i * size / threads..(i + 1) * size / threads)
        .map(|rows| thread::spawn(move || render(rows, size, iterations)))
        .collect();
    let mut pixels = Vec::new();
    for thread in threads {
        pixels.extend(thread.join().expect("the thread did not panic"));
    }
    write_png(&options.out, size, &pixels)?;
    say!("wrote {}", options.out.display());
    Ok(())
}
