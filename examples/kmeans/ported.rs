//! k-means (Listing 2 of the paper), ported: std's program with another `use`.

use crucial::std;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use clap::Parser;
use crucial_examples::Error;
use crucial_examples::kmeans::{Partial, Step, assign, initial, report, write_centroids};
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
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Job {
    source: Source,
    threads: usize,
    iterations: u64,
    tolerance: f64,
}

/// The centroids, and the threads' contributions to the next step.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct GlobalCentroids {
    /// The current step.
    pub step: Step,
}

impl GlobalCentroids {
    /// All centroids, one after the other.
    pub fn get(&self) -> Vec<f64> {
        self.step.centroids().to_vec()
    }

    /// The number of points of each cluster.
    pub fn counts(&self) -> Vec<u64> {
        self.step.counts().to_vec()
    }

    /// Adds the contribution of a part. The last one of a step gets the result of [`Step::contribute`].
    pub fn update(&mut self, part: u64, partial: Partial) -> Option<(f64, f64)> {
        self.step.contribute(part, partial)
    }
}

/// The history of the steps.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub struct GlobalDelta {
    moved: f64,
    history: Vec<f64>,
}

impl GlobalDelta {
    /// Records the result of a step.
    pub fn record(&mut self, inertia: f64, moved: f64) {
        self.history.push(inertia);
        self.moved = moved;
    }

    /// The largest squared distance that a centroid moved in the last step.
    pub fn moved(&self) -> f64 {
        self.moved
    }

    /// The inertia of each step.
    pub fn history(&self) -> Vec<f64> {
        self.history.clone()
    }
}

/// The objects that the threads share.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Globals {
    centroids: Arc<Mutex<GlobalCentroids>>,
    delta: Arc<Mutex<GlobalDelta>>,
    iterations: Arc<AtomicU64>,
    barrier: Arc<Barrier>,
}

#[crucial::cloud]
fn cluster(index: usize, job: &Job, globals: &Globals) -> Result<(), Error> {
    let points = job.source.part(index, job.threads)?;
    while globals.iterations.load(Ordering::SeqCst) < job.iterations {
        let centroids = globals.centroids.lock().unwrap().get();
        let partial = assign(points.view(), &centroids);
        // The last contribution returns the result of the step.
        let step = globals
            .centroids
            .lock()
            .unwrap()
            .update(index as u64, partial);
        if let Some((inertia, moved)) = step {
            globals.delta.lock().unwrap().record(inertia, moved);
            globals.iterations.fetch_add(1, Ordering::SeqCst);
        }
        globals.barrier.wait();
        if globals.delta.lock().unwrap().moved() <= job.tolerance {
            break;
        }
    }
    Ok(())
}

#[crucial::main]
fn main() -> Result<(), Error> {
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
        centroids: Arc::new(Mutex::new(GlobalCentroids { step })),
        delta: Arc::new(Mutex::new(GlobalDelta::default())),
        iterations: Arc::new(AtomicU64::new(0)),
        barrier: Arc::new(Barrier::new(job.threads)),
    };
    let threads: Vec<_> = (0..job.threads)
        .map(|index| {
            let (job, globals) = (job.clone(), globals.clone());
            thread::spawn(move || cluster(index, &job, &globals))
        })
        .collect();
    for thread in threads {
        thread.join().expect("the thread did not panic")?;
    }
    let history = globals.delta.lock().unwrap().history();
    report(&history, &globals.centroids.lock().unwrap().counts());
    if let Some(path) = &options.out {
        let centroids = globals.centroids.lock().unwrap().get();
        write_centroids(path, &centroids, points.ncols())?;
    }
    if let Some(path) = &options.plot {
        plot(path, "inertia", &history)?;
    }
    Ok(())
}
