//! A map-reduce (§6.3.1 of the paper), with cloud threads: the client gets the results through promises, a
//! shared object that adds them up, or a polled shared map.

use std::time::Duration;

use crucial::collections::Map;
use crucial::sync::Promise;
use crucial::thread::{self, JoinHandle};
use crucial::{Result, Shared, cloud};
use serde::{Deserialize, Serialize};

use clap::Parser;
use crucial_example_types::mapreduce::Total;
use crucial_examples::mapreduce::{Job, Outcome, Partial, Variant, compute, report};

/// Counts random points in tasks, and measures how long it takes to combine their results.
#[derive(Parser)]
struct Options {
    /// Number of tasks
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1000))]
    tasks: u64,
    /// Random points of each task
    #[arg(long, default_value_t = 1_000_000)]
    points: u64,
    /// How results are combined; by default all variants are measured
    #[arg(long, value_enum)]
    variant: Option<Variant>,
    /// Milliseconds between two polls of the map
    #[arg(long, default_value_t = 10)]
    poll_ms: u64,
    /// Number of measurements of each variant; the median is printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    rounds: u64,
}

impl Options {
    fn job(&self) -> Job {
        Job {
            tasks: self.tasks,
            points: self.points,
            poll: Duration::from_millis(self.poll_ms),
        }
    }

    fn variants(&self) -> Vec<Variant> {
        match self.variant {
            Some(variant) => vec![variant],
            None => vec![Variant::Futures, Variant::AutoReduce, Variant::Polling],
        }
    }
}

/// The destination of a task's result.
#[derive(Clone, Serialize, Deserialize)]
enum Output {
    Future(Shared<Promise<Partial>>),
    Total(Shared<Total>),
    Map(Shared<Map<u64, Partial>>),
}

#[cloud]
fn work(task: u64, points: u64, output: Output) -> Result<()> {
    let partial = compute(task, points);
    match output {
        Output::Future(future) => drop(future.set(partial)?),
        Output::Total(total) => total.add(partial)?,
        Output::Map(map) => drop(map.insert(task, partial)?),
    }
    Ok(())
}

fn start(job: &Job, outputs: impl IntoIterator<Item = Output>) -> Vec<JoinHandle<Result<()>>> {
    let points = job.points;
    (0..job.tasks)
        .zip(outputs)
        .map(|(task, output)| thread::spawn(work(task, points, output)))
        .collect()
}

/// Records the time of the result, then joins the tasks.
fn finish(total: Partial, threads: Vec<JoinHandle<Result<()>>>) -> Result<Outcome> {
    let outcome = Outcome::of(total);
    for thread in threads {
        thread.join()??;
    }
    Ok(outcome)
}

fn futures(job: &Job) -> Result<Outcome> {
    let futures = (0..job.tasks).map(|_| Shared::new(Promise::new()));
    let futures: Vec<_> = futures.collect::<Result<_>>()?;
    let threads = start(job, futures.iter().cloned().map(Output::Future));
    let mut total = Partial::default();
    for future in futures {
        total.add(future.get()?);
    }
    finish(total, threads)
}

fn auto_reduce(job: &Job) -> Result<Outcome> {
    let (missing, sum) = (job.tasks, Partial::default());
    let total = Shared::new(Total { missing, sum })?;
    let threads = start(job, std::iter::repeat(Output::Total(total.clone())));
    finish(total.result()?, threads)
}

fn polling(job: &Job) -> Result<Outcome> {
    let map = Shared::new(Map::new())?;
    let threads = start(job, std::iter::repeat(Output::Map(map.clone())));
    while map.len()? < job.tasks {
        std::thread::sleep(job.poll);
    }
    let mut total = Partial::default();
    for partial in map.values()? {
        total.add(partial);
    }
    finish(total, threads)
}

#[crucial::main]
fn main() -> Result<()> {
    let options = Options::parse();
    let job = options.job();
    for variant in options.variants() {
        let rounds = (0..options.rounds).map(|_| match variant {
            Variant::Futures => futures(&job),
            Variant::AutoReduce => auto_reduce(&job),
            Variant::Polling => polling(&job),
        });
        report(variant, &job, rounds.collect::<Result<_>>()?);
    }
    Ok(())
}
