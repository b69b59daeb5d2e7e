//! A map-reduce that measures how results are combined (§6.3.1 of the paper): the time from the end of the last task
//! until the client has the result.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;

pub use crucial_example_types::mapreduce::Partial;

use crate::montecarlo::sample;
use crate::say;

/// How the results of the tasks reach the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Variant {
    /// Each task fulfils its own future, and the client waits for one after the other
    Futures,
    /// All tasks add to one object, and the client waits for the sum
    AutoReduce,
    /// Each task inserts its result into a map, and the client polls the map until it is full
    Polling,
}

/// The job.
#[derive(Clone, Debug)]
pub struct Job {
    /// Number of tasks.
    pub tasks: u64,
    /// Random points of each task.
    pub points: u64,
    /// Time between two polls.
    pub poll: Duration,
}

/// The result at the client.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    inside: i64,
    late: Duration,
}

/// Counts the random points of a task that are inside the circle.
pub fn compute(task: u64, points: u64) -> Partial {
    Partial {
        inside: sample(points, task),
        ended_us: now_us(),
    }
}

impl Outcome {
    /// Records that the client has the result now.
    pub fn of(total: Partial) -> Outcome {
        Outcome {
            inside: total.inside,
            late: Duration::from_micros(now_us().saturating_sub(total.ended_us)),
        }
    }
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}

/// Prints the result of all rounds, and the median time to combine it.
pub fn report(variant: Variant, job: &Job, mut rounds: Vec<Outcome>) {
    rounds.sort_by_key(|outcome| outcome.late);
    let Some(median) = rounds.get(rounds.len() / 2) else {
        return;
    };
    let name = variant.to_possible_value();
    say!(
        "{:<11} {} of {} points are inside; known {:.3} ms after the end of the last task",
        name.map_or(String::new(), |name| name.get_name().to_owned()),
        median.inside,
        u128::from(job.tasks) * u128::from(job.points),
        median.late.as_secs_f64() * 1e3
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_results_add_up_to_the_last_one() {
        let mut total = Partial::default();
        let parts: Vec<_> = (0..3).map(|task| compute(task, 1000)).collect();
        for part in [2, 0, 1] {
            total.add(parts[part]);
        }
        assert_eq!(total.ended_us, parts[2].ended_us);
        let inside = (0..3).map(|task| sample(1000, task)).sum::<i64>();
        assert_eq!(Outcome::of(total).inside, inside);
    }
}
