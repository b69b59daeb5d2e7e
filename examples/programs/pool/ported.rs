//! A pool: workers take jobs from a queue behind a mutex, wait on a condition variable, and add jobs of their own.

use crucial::std;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// What the workers share.
#[derive(serde::Serialize, serde::Deserialize)]
struct Pool {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Queue {
    jobs: VecDeque<u64>,
    running: usize,
    results: Vec<(u64, u64)>,
}

/// The length of the Collatz sequence of `n`.
fn steps(mut n: u64) -> u64 {
    let mut steps = 0;
    while n != 1 {
        n = if n.is_multiple_of(2) {
            n / 2
        } else {
            3 * n + 1
        };
        steps += 1;
    }
    steps
}

#[crucial::cloud]
fn work(pool: Arc<Pool>) -> usize {
    let mut done = 0;
    loop {
        let mut queue = pool
            .changed
            .wait_while(pool.queue.lock().unwrap(), |queue| {
                queue.jobs.is_empty() && queue.running > 0
            })
            .unwrap();
        let Some(job) = queue.jobs.pop_front() else {
            // Nobody runs a job that could add another.
            return done;
        };
        queue.running += 1;
        drop(queue);

        let result = steps(job);
        done += 1;

        let mut queue = pool.queue.lock().unwrap();
        queue.results.push((job, result));
        if job < 20 {
            queue.jobs.push_back(job * 3);
        }
        queue.running -= 1;
        pool.changed.notify_all();
    }
}

#[crucial::main]
fn main() {
    let pool = Arc::new(Pool {
        queue: Mutex::default(),
        changed: Condvar::new(),
    });
    pool.queue.lock().unwrap().jobs.extend(1..=10);
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let pool = Arc::clone(&pool);
            thread::spawn(move || work(pool))
        })
        .collect();
    let done: usize = workers
        .into_iter()
        .map(|worker| worker.join().unwrap())
        .sum();
    let mut results = std::mem::take(&mut pool.queue.lock().unwrap().results);
    results.sort();
    println!("{done} jobs: {results:?}");
}
