//! Inference (§6.4 of the paper), with std threads: a model in memory processes requests, or is copied by
//! the threads that have requests.

use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Instant;

use crucial_examples::Result;

use clap::Parser;
use crucial_examples::inference::{Classifier, Job, KNOWN, Served, Variant, report, train};
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

/// The model that processes all requests.
pub struct Model {
    /// The classifier of digits.
    pub classifier: Classifier,
}

impl Model {
    /// Returns the digit in a picture.
    pub fn classify(&self, picture: &[f64]) -> u8 {
        self.classifier.classify(picture)
    }

    /// Returns the whole value.
    pub fn fetch(&self) -> Classifier {
        self.classifier.clone()
    }
}

fn serve(thread: usize, job: &Job, model: &Mutex<Model>, all: &Barrier) -> Result<Served> {
    let requests = job.part(thread)?;
    all.wait();
    let start = Instant::now();
    let mut hits = 0;
    for request in requests {
        let picture = &request.picture[..];
        let digit = match job.variant {
            Variant::Remote => model.lock().unwrap().classify(picture),
            Variant::Fetch => model.lock().unwrap().fetch().classify(picture),
        };
        hits += usize::from(digit == request.digit);
    }
    let time = start.elapsed();
    Ok(Served { hits, time })
}

fn main() -> Result<()> {
    let options: Options = parse();
    let classifier = train(options.k, options.seed)?;
    let model = &Mutex::new(Model { classifier });
    for job in &options.jobs() {
        let all = &Barrier::new(job.threads);
        let served = thread::scope(|scope| -> Result<Vec<_>> {
            let threads: Vec<_> = (0..job.threads)
                .map(|thread| scope.spawn(move || serve(thread, job, model, all)))
                .collect();
            let mut served = Vec::new();
            for thread in threads {
                served.push(thread.join()??);
            }
            Ok(served)
        })?;
        report(job, &served);
    }
    Ok(())
}
