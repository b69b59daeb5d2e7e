//! Many threads at once.

use std::ops::Range;

use crucial_object::{Error, Result, decode};
use serde::de::DeserializeOwned;

use super::builder::{Builder, check_name};
use super::group::{cancel_all, join_together};
use super::launch::launch;
use crate::progress::Progress;
use crate::runtime;
use crate::task::{Batch, Results, Task};

/// Runs a cloud thread for each input, and returns their results in the order of the inputs. Shows a
/// progress bar if standard error is a terminal. Blocks until all have ended.
///
/// ```no_run
/// # use crucial::{cloud, thread, Result};
/// #[cloud]
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// # fn main() -> Result<()> {
/// let squares = thread::map(1..=100, square)?;
/// assert_eq!(squares[9], 100);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The error of the first thread that did not return; the others are cancelled then, unless
/// [`let_others_finish`](Builder::let_others_finish) says otherwise.
#[doc(alias = "invokeAll")]
pub fn map<I, R: DeserializeOwned>(
    inputs: impl IntoIterator<Item = I>,
    task: impl FnMut(I) -> Task<R>,
) -> Result<Vec<R>> {
    Builder::new().map(inputs, task)
}

impl Builder {
    /// As [`map`], with threads of these settings. The input's number is appended to the name.
    pub fn map<I, R: DeserializeOwned>(
        self,
        inputs: impl IntoIterator<Item = I>,
        mut task: impl FnMut(I) -> Task<R>,
    ) -> Result<Vec<R>> {
        // All inputs are encoded before the first thread is started: an input that cannot be sent is refused before
        // anything runs.
        let batches = inputs.into_iter().map(|input| {
            let mut batch = Batch::default();
            batch.add(task(input))?;
            Ok(batch)
        });
        let batches: Vec<Batch> = batches.collect::<Result<_>>()?;
        let results = self.run_all(batches)?;
        results.iter().map(|result| decode(result)).collect()
    }

    /// Runs a thread for each batch of calls, and returns the results of all calls in order.
    fn run_all(&self, batches: Vec<Batch>) -> Result<Vec<Vec<u8>>> {
        let mut calls = batches.iter().flat_map(|batch| &batch.calls);
        let what = match calls.next() {
            Some(call) => call.short_name().to_owned(),
            None => return Ok(Vec::new()),
        };
        if let Some(name) = &self.name {
            check_name(name)?;
        }
        let runtime = runtime::current()?;
        let surroundings = self.surroundings(&runtime)?;
        let progress = Progress::new(&what, batches.len() as u64);
        let mut threads = Vec::with_capacity(batches.len());
        for (index, batch) in batches.into_iter().enumerate() {
            let name = format!("{}-{index}", self.name.as_ref().unwrap_or(&what));
            match launch(&runtime, &self.settings, &name, batch, &surroundings) {
                Ok((packet, control)) => threads.push((packet, Some(control))),
                Err(error) => {
                    cancel_all(&threads);
                    return Err(error);
                }
            }
        }
        let take = |results: Results| Ok(results.of_calls);
        let cancels = !self.lets_others_finish;
        let results = join_together(threads, cancels, take, || progress.step())?;
        let results = results.into_iter().flatten();
        Ok(results.map(|returned| returned.result).collect())
    }
}

/// Splits `range` into `workers` parts, runs a cloud thread for each, and returns their results in order. The parts
/// differ in length by one at most. Blocks until all threads have ended.
///
/// The thread's function loops over its part; code after the loop runs once for each worker (the paper's §3.1: iterative
/// tasks with a finalizer). [`ParallelFor`] does the same for functions of a single index.
///
/// ```no_run
/// # use crucial::{cloud, thread, Result};
/// # use std::ops::Range;
/// #[cloud]
/// fn sum(part: Range<u64>) -> u64 {
///     part.sum()
/// }
///
/// # fn main() -> Result<()> {
/// let sums = thread::parallel_for(0..1_000_000, 8, sum)?;
/// assert_eq!(sums.iter().sum::<u64>(), 499_999_500_000);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Error::Config`] if `workers` is 0; otherwise as [`map`].
#[doc(alias("invokeIterativeTask", "for_each"))]
pub fn parallel_for<R: DeserializeOwned>(
    range: Range<u64>,
    workers: usize,
    task: impl FnMut(Range<u64>) -> Task<R>,
) -> Result<Vec<R>> {
    map(split(range, workers)?, task)
}

/// Adds what a worker runs after its indices.
type Finalizer<'a> = dyn FnMut(usize, &mut Batch) -> Result<()> + 'a;

/// A parallel `for` over single indices: each index runs once, on one of a number of workers.
///
/// ```no_run
/// # use crucial::{cloud, collections::List, thread, Result, Shared};
/// # #[cloud] fn step(i: u64) -> u64 { i }
/// # #[cloud] fn finish(worker: usize, done: Shared<List<usize>>) -> Result<()> { done.push(worker) }
/// # fn main() -> Result<()> {
/// let done = Shared::new(List::new())?;
/// let results = thread::ParallelFor::new(0..1000)
///     .workers(8)
///     .finalizer(|worker| finish(worker, done.clone()))
///     .each(step)?;
/// assert_eq!((results.len(), done.len()?), (1000, 8));
/// # Ok(())
/// # }
/// ```
pub struct ParallelFor<'a> {
    range: Range<u64>,
    workers: usize,
    builder: Builder,
    finalizer: Option<Box<Finalizer<'a>>>,
}

impl<'a> ParallelFor<'a> {
    /// A parallel `for` over `range`, with a worker for each core of this machine.
    pub fn new(range: Range<u64>) -> ParallelFor<'a> {
        ParallelFor {
            range,
            workers: std::thread::available_parallelism().map_or(1, Into::into),
            builder: Builder::new(),
            finalizer: None,
        }
    }

    /// The number of workers: cloud threads, each of which runs its share of the indices.
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// The settings of the cloud threads.
    pub fn builder(mut self, builder: Builder) -> Self {
        self.builder = builder;
        self
    }

    /// A task that each worker runs once, after its indices. The task gets the worker's number. An `Err` that the task
    /// returns is lost; a panic fails the whole operation.
    pub fn finalizer<R>(mut self, mut task: impl FnMut(usize) -> Task<R> + 'a) -> Self {
        self.finalizer = Some(Box::new(move |worker, batch| batch.add(task(worker))));
        self
    }

    /// Runs a task for each index, and returns the results in order.
    pub fn each<R: DeserializeOwned>(
        mut self,
        mut task: impl FnMut(u64) -> Task<R>,
    ) -> Result<Vec<R>> {
        let parts = split(self.range, self.workers)?;
        let lengths: Vec<_> = parts
            .iter()
            .map(|part| (part.end - part.start) as usize)
            .collect();
        let mut batches = Vec::with_capacity(parts.len());
        for (worker, part) in parts.into_iter().enumerate() {
            let mut batch = Batch::default();
            for index in part {
                batch.add(task(index))?;
            }
            if let Some(finalizer) = &mut self.finalizer {
                finalizer(worker, &mut batch)?;
            }
            batches.push(batch);
        }
        let per_worker = usize::from(self.finalizer.is_some());
        let all = self.builder.run_all(batches)?;
        let mut all = all.into_iter();
        let mut results = Vec::new();
        for length in lengths {
            for bytes in all.by_ref().take(length) {
                results.push(decode(&bytes)?);
            }
            all.by_ref().take(per_worker).for_each(drop);
        }
        Ok(results)
    }
}

/// Contiguous parts that cover `range`, none of them empty. Their lengths differ by one at most.
fn split(range: Range<u64>, workers: usize) -> Result<Vec<Range<u64>>> {
    if workers == 0 {
        return Err(Error::Config {
            detail: "a parallel `for` needs at least one worker".to_owned(),
        });
    }
    let length = range.end.saturating_sub(range.start);
    let workers = (workers as u64).min(length);
    let mut start = range.start;
    Ok((0..workers)
        .map(|worker| {
            let share = length / workers + u64::from(worker < length % workers);
            let part = start..start + share;
            start = part.end;
            part
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_range_and_are_even() {
        for (length, workers) in [(0, 3), (1, 3), (10, 3), (9, 3), (1000, 7), (5, 5), (5, 100)] {
            let parts = split(100..100 + length, workers).unwrap();
            assert!(parts.iter().cloned().flatten().eq(100..100 + length));
            let lengths = parts.iter().map(|part| part.end - part.start);
            let (min, max) = (lengths.clone().min(), lengths.max());
            assert!(max.unwrap_or(0) - min.unwrap_or(0) <= 1);
        }
        assert!(split(0..1, 0).is_err());
    }
}
