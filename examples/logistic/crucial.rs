//! Logistic regression by gradient descent (§6.2 of the paper), with cloud threads: each thread has a
//! part of the rows, and the weights are a shared object.

use std::path::PathBuf;

use crucial::{Result, Shared, cloud, thread};

use clap::Parser;
use crucial_example_types::logistic::Model;
use crucial_examples::logistic::{Job, Source, report};
use crucial_examples::options::{parse, positive, within};
use crucial_examples::paths::SentPath;
use crucial_examples::plot::plot;
use crucial_examples::say;

/// Trains a classifier of benign and malignant tissue, or of any two classes of rows in a file.
#[derive(Parser)]
struct Options {
    /// A .csv, .csv.gz or .npy file; the last column is the label, 0 or 1
    #[arg(long, conflicts_with = "generate")]
    file: Option<PathBuf>,
    /// Generate this number of rows, with this number of features
    #[arg(long, num_args = 2, value_names = ["ROWS", "COLS"], value_parser = within(1..=usize::MAX))]
    generate: Option<Vec<usize>>,
    /// Number of threads
    #[arg(long, default_value_t = 4, value_parser = within(1..=1000u16))]
    threads: u16,
    /// Number of steps
    #[arg(long, default_value_t = 100, value_parser = within(1..=u64::MAX))]
    iterations: u64,
    /// The learning rate
    #[arg(long, default_value_t = 0.5, value_parser = positive)]
    rate: f64,
    /// Seed of generated rows
    #[arg(long, default_value_t = 1, value_parser = within(0..=u64::MAX))]
    seed: u64,
    /// Plot the loss before each step to this file, as SVG
    #[arg(long)]
    plot: Option<PathBuf>,
}

impl Options {
    fn source(&self) -> Source {
        match (&self.file, self.generate.as_deref()) {
            (Some(path), _) => Source::File(SentPath(path.clone())),
            (None, Some(&[rows, columns])) => Source::Generated {
                rows,
                columns,
                seed: self.seed,
            },
            (None, _) => Source::BreastCancer,
        }
    }

    fn job(&self) -> Job {
        Job {
            source: self.source(),
            threads: self.threads.into(),
            iterations: self.iterations,
            rate: self.rate,
        }
    }
}

#[cloud]
fn train(index: usize, job: &Job, model: &Shared<Model>) -> Result<u64> {
    let rows = job.part(index)?;
    let (mut step, mut weights) = (0, rows.start());
    while step < job.iterations {
        let partial = rows.gradient(&weights);
        (step, weights) = model.contribute(step, index as u64, &partial)?;
    }
    Ok(rows.hits(&weights))
}

#[crucial::main]
fn main() -> Result<()> {
    let options: Options = parse();
    let mut job = options.job();
    let (rows, columns) = job.check()?;
    let job = &job;
    say!("{rows} rows of {columns} features");
    let descent = job.descent(columns);
    let model = &Shared::new(Model { descent })?;
    let threads = (0..job.threads).map(|index| thread::spawn(train(index, job, model)));
    let hits = thread::join_all(threads)?.iter().sum();
    let losses = model.losses()?;
    report(&losses, hits, rows)?;
    if let Some(path) = &options.plot {
        plot(path, "loss", &losses)?;
    }
    Ok(())
}
