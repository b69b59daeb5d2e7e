//! A map-reduce (§6.3.1 of the paper), with std threads: the client gets the results through channels, an
//! object that adds them up, or a polled map.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crucial_examples::Result;

use clap::Parser;
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

/// Adds up results; the sum is available after the last one.
struct Total {
    /// The number of missing results, and the sum of the present ones.
    state: Mutex<(u64, Partial)>,
    changed: Condvar,
}

impl Total {
    /// Adds the result of a task.
    fn add(&self, partial: Partial) {
        let mut state = self.state.lock().unwrap();
        state.0 -= 1;
        state.1.add(partial);
        self.changed.notify_all();
    }

    /// Waits for the sum of all results.
    fn result(&self) -> Partial {
        let state = self.state.lock().unwrap();
        let state = self.changed.wait_while(state, |(missing, _)| *missing > 0);
        state.unwrap().1
    }
}

/// The destination of a task's result.
#[derive(Clone)]
enum Output {
    Future(mpsc::Sender<Partial>),
    Total(Arc<Total>),
    Map(Arc<Mutex<BTreeMap<u64, Partial>>>),
}

fn work(task: u64, points: u64, output: Output) -> Result<()> {
    let partial = compute(task, points);
    match output {
        Output::Future(future) => drop(future.send(partial)),
        Output::Total(total) => total.add(partial),
        Output::Map(map) => drop(map.lock().unwrap().insert(task, partial)),
    }
    Ok(())
}

fn start(job: &Job, outputs: impl IntoIterator<Item = Output>) -> Vec<JoinHandle<Result<()>>> {
    let points = job.points;
    (0..job.tasks)
        .zip(outputs)
        .map(|(task, output)| thread::spawn(move || work(task, points, output)))
        .collect()
}

/// Waits for the result, and for the tasks. If one of these fails, its failure is the outcome: the result never comes.
fn finish(
    threads: Vec<JoinHandle<Result<()>>>,
    result: impl FnOnce() -> Result<Partial> + Send + 'static,
) -> Result<Outcome> {
    let client = std::thread::spawn(move || result().map(Outcome::of));
    for thread in threads {
        thread.join()??;
    }
    client.join().expect("the client does not panic")
}

fn futures(job: &Job) -> Result<Outcome> {
    let (outputs, futures): (Vec<_>, Vec<_>) = (0..job.tasks).map(|_| mpsc::channel()).unzip();
    let threads = start(job, outputs.into_iter().map(Output::Future));
    finish(threads, move || {
        let mut total = Partial::default();
        // The channel of a task that panicked is closed; the join reports the panic.
        for partial in futures.iter().flat_map(|future| future.recv()) {
            total.add(partial);
        }
        Ok(total)
    })
}

fn auto_reduce(job: &Job) -> Result<Outcome> {
    let total = Arc::new(Total {
        state: Mutex::new((job.tasks, Partial::default())),
        changed: Condvar::new(),
    });
    let threads = start(job, std::iter::repeat(Output::Total(total.clone())));
    finish(threads, move || Ok(total.result()))
}

fn polling(job: &Job) -> Result<Outcome> {
    let map = Arc::new(Mutex::new(BTreeMap::new()));
    let threads = start(job, std::iter::repeat(Output::Map(map.clone())));
    let (tasks, poll) = (job.tasks, job.poll);
    finish(threads, move || {
        while (map.lock().unwrap().len() as u64) < tasks {
            // What this way of waiting is about, which the others are measured against.
            thread::sleep(poll);
        }
        let mut total = Partial::default();
        for partial in map.lock().unwrap().values() {
            total.add(*partial);
        }
        Ok(total)
    })
}

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
