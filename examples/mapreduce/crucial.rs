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
use crucial_examples::options::{MILLIS_MAX, parse, within};

/// Counts random points in tasks, and measures how long it takes to combine their results.
#[derive(Parser)]
struct Options {
    /// Number of tasks
    #[arg(long, default_value_t = 16, value_parser = within(1..=1000u64))]
    tasks: u64,
    /// Random points of each task
    #[arg(long, default_value_t = 1_000_000, value_parser = within(1..=u64::MAX))]
    points: u64,
    /// How results are combined; by default all variants are measured
    #[arg(long, value_enum)]
    variant: Option<Variant>,
    /// Milliseconds between two polls of the map
    #[arg(long, default_value_t = 10, value_parser = within(0..=MILLIS_MAX))]
    poll_ms: u64,
    /// Number of measurements of each variant; the median is printed
    #[arg(long, default_value_t = 3, value_parser = within(1..=1000u64))]
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

/// Waits for the result, and for the tasks. If one of these fails, its failure is the outcome: the result never comes.
fn finish(
    threads: Vec<JoinHandle<Result<()>>>,
    result: impl FnOnce() -> Result<Partial> + Send + 'static,
) -> Result<Outcome> {
    let client = std::thread::spawn(move || result().map(Outcome::of));
    thread::join_all(threads)?;
    client.join().expect("the client does not panic")
}

fn futures(job: &Job) -> Result<Outcome> {
    let futures = (0..job.tasks).map(|_| Shared::new(Promise::new()));
    let futures: Vec<_> = futures.collect::<Result<_>>()?;
    let threads = start(job, futures.iter().cloned().map(Output::Future));
    finish(threads, move || {
        let mut total = Partial::default();
        for future in futures {
            total.add(future.wait()?);
        }
        Ok(total)
    })
}

fn auto_reduce(job: &Job) -> Result<Outcome> {
    let (missing, sum) = (job.tasks, Partial::default());
    let total = Shared::new(Total { missing, sum })?;
    let threads = start(job, std::iter::repeat(Output::Total(total.clone())));
    finish(threads, move || total.result())
}

fn polling(job: &Job) -> Result<Outcome> {
    let map = Shared::new(Map::new())?;
    let threads = start(job, std::iter::repeat(Output::Map(map.clone())));
    let (tasks, poll) = (job.tasks, job.poll);
    finish(threads, move || {
        while map.len()? < tasks {
            // What this way of waiting is about, which the others are measured against.
            std::thread::sleep(poll);
        }
        let mut total = Partial::default();
        for partial in map.values()? {
            total.add(partial);
        }
        Ok(total)
    })
}

#[crucial::main]
fn main() -> Result<()> {
    let options: Options = parse();
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
