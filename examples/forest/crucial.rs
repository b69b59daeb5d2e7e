//! A random forest, with cloud threads: each trains some trees, and writes each tree's votes as a row of
//! a shared matrix.

use std::path::PathBuf;

use crucial::collections::Matrix;
use crucial::{Result, Shared, cloud, thread};

use clap::Parser;
use crucial_examples::forest::Job;
use crucial_examples::options::{parse, within};
use crucial_examples::paths::SentPath;
use crucial_examples::say;

/// Trains a classifier of handwritten digits, or of the rows of a file, and tests it.
#[derive(Parser)]
struct Options {
    /// A .csv, .csv.gz or .npy file instead of the digits; the last column is the class: 0, 1, 2 ..
    #[arg(long)]
    file: Option<PathBuf>,
    /// Number of trees
    #[arg(long, default_value_t = 40, value_parser = within(1..=10_000u16))]
    trees: u16,
    /// Number of threads
    #[arg(long, default_value_t = 4, value_parser = within(1..=1000u16))]
    threads: u16,
    /// Largest depth of a tree
    #[arg(long, default_value_t = 30, value_parser = within(1..=100u16))]
    depth: u16,
    /// Seed
    #[arg(long, default_value_t = 1, value_parser = within(0..=u64::MAX))]
    seed: u64,
}

impl Options {
    fn job(&self) -> Job {
        Job {
            file: self.file.clone().map(SentPath),
            trees: self.trees.into(),
            threads: self.threads.min(self.trees).into(),
            depth: self.depth,
            seed: self.seed,
        }
    }
}

#[cloud]
fn grow(thread: usize, job: &Job, matrix: &Shared<Matrix>) -> Result<()> {
    let split = job.split()?;
    for tree in job.part(thread) {
        let votes = split.votes(tree)?;
        matrix.set_row(tree as u64, &votes)?;
    }
    Ok(())
}

#[crucial::main]
fn main() -> Result<()> {
    let options: Options = parse();
    let job = &options.job();
    let split = job.split()?;
    if let Some(note) = &split.note {
        say::note(format_args!("{note}"));
    }
    let matrix = &Shared::new(Matrix::new(job.trees, split.tests()))?;
    thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..job.threads)
            .map(|thread| scope.spawn(grow(thread, job, matrix)))
            .collect();
        for thread in threads {
            thread.join()??;
        }
        Ok(())
    })??;
    split.report(&matrix.to_vec()?);
    Ok(())
}
