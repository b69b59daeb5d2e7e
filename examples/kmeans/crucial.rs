//! k-means (Listing 2 of the paper), with cloud threads: global centroids, a global delta, a barrier
//! and a shared iteration count.

use std::path::PathBuf;

use crucial::sync::{AtomicU64, Barrier};
use crucial::{Result, Shared, cloud, thread};
use serde::{Deserialize, Serialize};

use clap::Parser;
use crucial_example_types::kmeans::{GlobalCentroids, GlobalDelta};
use crucial_examples::kmeans::{Step, assign, initial, report, write_centroids};
use crucial_examples::options::{finite, parse, within};
use crucial_examples::paths::SentPath;
use crucial_examples::plot::plot;
use crucial_examples::points::Source;
use crucial_examples::say;

/// Clusters points: handwritten digits, a file, or generated points.
#[derive(Parser)]
struct Options {
    /// A .csv, .csv.gz or .npy file with a point in each row, instead of the digits
    #[arg(long, conflicts_with = "generate")]
    file: Option<PathBuf>,
    /// Generate this number of points, instead of the digits
    #[arg(long, value_parser = within(1..=usize::MAX))]
    generate: Option<usize>,
    /// Dimensions of generated points
    #[arg(long, default_value_t = 100, value_parser = within(1..=usize::MAX))]
    dimensions: usize,
    /// Number of clusters
    #[arg(short, long, default_value_t = 10, value_parser = within(1..=usize::MAX))]
    k: usize,
    /// Number of threads
    #[arg(long, default_value_t = 4, value_parser = within(1..=1000u16))]
    threads: u16,
    /// Largest number of steps
    #[arg(long, default_value_t = 100, value_parser = within(1..=u64::MAX))]
    iterations: u64,
    /// Stop when no centroid moves farther than this (squared distance)
    #[arg(long, default_value_t = 1e-9, value_parser = finite)]
    tolerance: f64,
    /// Seed of the initial centroids and of generated points
    #[arg(long, default_value_t = 1, value_parser = within(0..=u64::MAX))]
    seed: u64,
    /// Write the centroids to this file, as CSV
    #[arg(long)]
    out: Option<PathBuf>,
    /// Plot the inertia of each step to this file, as SVG
    #[arg(long)]
    plot: Option<PathBuf>,
}

impl Options {
    fn source(&self) -> Source {
        match (&self.file, self.generate) {
            (Some(path), _) => Source::File(SentPath(path.clone())),
            (None, Some(points)) => Source::Generated {
                points,
                dimensions: self.dimensions,
                centres: self.k,
                seed: self.seed,
            },
            (None, None) => Source::Digits,
        }
    }

    fn job(&self) -> Job {
        Job {
            source: self.source(),
            threads: self.threads.into(),
            iterations: self.iterations,
            tolerance: self.tolerance,
        }
    }
}

/// The arguments of each thread.
#[derive(Clone, Serialize, Deserialize)]
struct Job {
    source: Source,
    threads: usize,
    iterations: u64,
    tolerance: f64,
}

/// The objects that the threads share.
#[derive(Clone, Serialize, Deserialize)]
struct Globals {
    centroids: Shared<GlobalCentroids>,
    delta: Shared<GlobalDelta>,
    iterations: Shared<AtomicU64>,
    barrier: Shared<Barrier>,
}

#[cloud]
fn cluster(index: usize, job: &Job, globals: &Globals) -> Result<()> {
    let points = job.source.part(index, job.threads)?;
    while globals.iterations.load()? < job.iterations {
        let centroids = globals.centroids.get()?;
        let partial = assign(points.view(), &centroids);
        // The last contribution returns the result of the step.
        let step = globals.centroids.update(index as u64, partial)?;
        if let Some((inertia, moved)) = step {
            globals.delta.record(inertia, moved)?;
            globals.iterations.fetch_add(1)?;
        }
        globals.barrier.wait()?;
        if globals.delta.moved()? <= job.tolerance {
            break;
        }
    }
    Ok(())
}

#[crucial::main]
fn main() -> Result<()> {
    let options: Options = parse();
    let job = options.job();
    let (points, note) = job.source.load_and_note()?;
    if let Some(note) = note {
        say::note(format_args!("{note}"));
    }
    say!("{} points of {} dimensions", points.nrows(), points.ncols());
    let start = initial(&points, options.k, options.seed)?;
    let step = Step::new(start, job.threads);
    let globals = Globals {
        centroids: Shared::new(GlobalCentroids { step })?,
        delta: Shared::new(GlobalDelta::default())?,
        iterations: Shared::new(AtomicU64::new(0))?,
        barrier: Shared::new(Barrier::new(job.threads))?,
    };
    let threads = (0..job.threads).map(|index| thread::spawn(cluster(index, &job, &globals)));
    thread::join_all(threads)?;
    let history = globals.delta.history()?;
    report(&history, &globals.centroids.counts()?);
    if let Some(path) = &options.out {
        let centroids = globals.centroids.get()?;
        write_centroids(path, &centroids, points.ncols())?;
    }
    if let Some(path) = &options.plot {
        plot(path, "inertia", &history)?;
    }
    Ok(())
}
