//! Logistic regression by gradient descent (§6.2 of the paper), with std threads: each thread has a
//! part of the rows, and the weights are behind a mutex.

use std::path::PathBuf;
use std::sync::{Condvar, Mutex};
use std::thread;

use clap::Parser;
use crucial_examples::Result;
use crucial_examples::logistic::{Descent, Job, Partial, Source, report};
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

/// The weights, and the threads' contributions to the next step.
struct Model {
    descent: Mutex<Descent>,
    stepped: Condvar,
}

impl Model {
    fn new(descent: Descent) -> Model {
        Model {
            descent: Mutex::new(descent),
            stepped: Condvar::new(),
        }
    }

    /// Adds the contribution of a part of the rows to a step, and waits for the other parts. Returns the weights of the next
    /// step.
    fn contribute(&self, step: u64, part: u64, partial: &Partial) -> Vec<f64> {
        let mut descent = self.descent.lock().unwrap();
        if descent.contribute(step, part, partial) {
            self.stepped.notify_all();
        }
        let descent = self
            .stepped
            .wait_while(descent, |descent| descent.steps() <= step);
        descent.unwrap().weights().to_vec()
    }

    /// The mean loss before each step.
    fn losses(&self) -> Vec<f64> {
        self.descent.lock().unwrap().losses().to_vec()
    }
}

fn train(index: usize, job: &Job, model: &Model) -> Result<u64> {
    let rows = job.part(index)?;
    let mut weights = rows.start();
    for step in 0..job.iterations {
        let partial = rows.gradient(&weights);
        weights = model.contribute(step, index as u64, &partial);
    }
    Ok(rows.hits(&weights))
}

fn main() -> Result<()> {
    let options: Options = parse();
    let mut job = options.job();
    let (rows, columns) = job.check()?;
    let job = &job;
    say!("{rows} rows of {columns} features");
    let descent = job.descent(columns);
    let model = &Model::new(descent);
    let hits = thread::scope(|scope| -> Result<u64> {
        let threads: Vec<_> = (0..job.threads)
            .map(|index| scope.spawn(move || train(index, job, model)))
            .collect();
        let mut hits = 0;
        for thread in threads {
            hits += thread.join()??;
        }
        Ok(hits)
    })?;
    let losses = model.losses();
    report(&losses, hits, rows)?;
    if let Some(path) = &options.plot {
        plot(path, "loss", &losses)?;
    }
    Ok(())
}
