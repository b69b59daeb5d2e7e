//! Inference (§6.4 of the paper), with cloud threads: a model, which is a shared object, processes requests on
//! its server, or is fetched by the threads that have requests.

use std::time::Instant;

use crucial::sync::Barrier;
use crucial::{Result, Shared, cloud, thread};

use clap::Parser;
use crucial_example_types::inference::Model;
use crucial_examples::inference::{Job, KNOWN, Served, Variant, report, train};
use crucial_examples::options::{parse, within};

/// Classifies handwritten digits: requests go to the model, or the model goes to the requests.
#[derive(Parser)]
struct Options {
    /// Where requests are processed; by default both variants are measured
    #[arg(long, value_enum)]
    variant: Option<Variant>,
    /// Number of requests
    #[arg(long, default_value_t = 7200, value_parser = within(1..=u32::MAX))]
    requests: u32,
    /// Number of threads
    #[arg(long, default_value_t = 4, value_parser = within(1..=1000u16))]
    threads: u16,
    /// Centroids of the model
    #[arg(short, long, default_value_t = 60, value_parser = within(1..=KNOWN))]
    k: usize,
    /// Seed of the training
    #[arg(long, default_value_t = 1, value_parser = within(0..=u64::MAX))]
    seed: u64,
}

impl Options {
    fn jobs(&self) -> Vec<Job> {
        let variants = match self.variant {
            Some(variant) => vec![variant],
            None => vec![Variant::Remote, Variant::Fetch],
        };
        let job = |variant| Job {
            variant,
            requests: self.requests as usize,
            // Each thread has a request.
            threads: usize::from(self.threads).min(self.requests as usize),
        };
        variants.into_iter().map(job).collect()
    }
}

#[cloud]
fn serve(thread: usize, job: &Job, model: &Shared<Model>, all: &Shared<Barrier>) -> Result<Served> {
    let requests = job.part(thread)?;
    all.wait()?;
    let start = Instant::now();
    let mut hits = 0;
    for request in requests {
        let picture = &request.picture[..];
        let digit = match job.variant {
            Variant::Remote => model.classify(picture)?,
            Variant::Fetch => model.fetch()?.classify(picture),
        };
        hits += usize::from(digit == request.digit);
    }
    let time = start.elapsed();
    Ok(Served { hits, time })
}

#[crucial::main]
fn main() -> Result<()> {
    let options: Options = parse();
    let classifier = train(options.k, options.seed)?;
    let model = &Shared::new(Model { classifier })?;
    for job in &options.jobs() {
        let all = &Shared::new(Barrier::new(job.threads))?;
        let threads = (0..job.threads).map(|thread| thread::spawn(serve(thread, job, model, all)));
        let served = thread::join_all(threads)?;
        report(job, &served);
    }
    Ok(())
}
