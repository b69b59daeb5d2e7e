//! Many small objects: counters that one thread each adds to.

use std::collections::VecDeque;

use crucial::sync::AtomicI64;
use crucial::{Pending, Shared};
use crucial_testing::{Error, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::judge::EpisodeNumber;
use crate::worker::{Context, Outcome, Seen, Workers};

/// The threads that share the objects.
const THREADS: u64 = 4;

/// The calls of a thread that are on their way at the same time.
const IN_FLIGHT: usize = 64;

/// The objects of a thread that are read at the end, at most.
const READ_MAX: usize = 25_000;

/// Starts the threads, which create `count` counters, and add to them.
///
/// # Errors
///
/// If a client cannot connect.
pub fn start(workers: &mut Workers, context: &Context, count: u64) -> Result<()> {
    for number in 0..THREADS.min(count) {
        let own = count / THREADS + u64::from(number < count % THREADS);
        workers.start(context, format!("small {number}"), move |context| {
            let mut objects = Counters {
                context,
                number,
                generation: 0,
                counters: Vec::new(),
            };
            objects.run(own as usize)
        })?;
    }
    Ok(())
}

struct Counter {
    handle: Shared<AtomicI64>,
    seen: Seen,
    value: i64,
}

struct Counters<'a> {
    context: &'a Context,
    number: u64,
    generation: u64,
    counters: Vec<Counter>,
}

/// A call that is on its way.
struct Sent {
    which: usize,
    begun: EpisodeNumber,
    expected: i64,
    reply: Pending<i64>,
}

impl Counters<'_> {
    fn run(&mut self, count: usize) -> Result<String> {
        while self.counters.len() < count && !self.context.is_over() {
            let counter = self.create(self.counters.len() as i64)?;
            self.counters.push(counter);
        }
        let mut random = ChaCha8Rng::seed_from_u64(self.context.seed ^ self.number << 8);
        let mut calls = 0;
        while !self.context.is_over() {
            // Each object once, so that the values are known before the replies.
            let first = random.random_range(0..self.counters.len());
            let batch = IN_FLIGHT.min(self.counters.len());
            let which = (first..first + batch).map(|at| at % self.counters.len());
            calls += self.each(which.collect(), |counter| {
                let reply = counter.handle.deferred().fetch_add(1);
                counter.value += 1;
                (counter.value - 1, reply)
            })?;
        }
        let step = self.counters.len().div_ceil(READ_MAX).max(1);
        let which: Vec<_> = (0..self.counters.len()).step_by(step).collect();
        let read = self.each(which.into(), |counter| {
            (counter.value, counter.handle.deferred().load())
        })?;
        Ok(format!(
            "small objects {}: {} objects, {calls} additions, {read} read at the end",
            self.number,
            self.counters.len()
        ))
    }

    fn create(&mut self, value: i64) -> Result<Counter> {
        let (context, number) = (self.context, self.number);
        let (handle, since) = context.create(&mut self.generation, |generation| {
            Shared::builder(format!("small-{number}.{generation}"))
                .replicas(context.replicas)
                .create(AtomicI64::new(value))
        })?;
        let object = handle.id();
        Ok(Counter {
            handle,
            seen: Seen { object, since },
            value,
        })
    }

    /// Makes a call of each of these objects, and compares the replies. `call` gives the expected reply. Objects that
    /// are lost are made anew.
    fn each(
        &mut self,
        mut which: VecDeque<usize>,
        call: impl Fn(&mut Counter) -> (i64, Pending<i64>),
    ) -> Result<u64> {
        let (mut sent, mut replies) = (VecDeque::new(), 0);
        loop {
            while sent.len() < IN_FLIGHT
                && let Some(which) = which.pop_front()
            {
                let begun = self.context.judge.now();
                let (expected, reply) = call(&mut self.counters[which]);
                sent.push_back(Sent {
                    which,
                    begun,
                    expected,
                    reply,
                });
            }
            let Some(next) = sent.pop_front() else {
                return Ok(replies);
            };
            self.take_reply(next)?;
            replies += 1;
        }
    }

    fn take_reply(&mut self, sent: Sent) -> Result<()> {
        let name = format!("small object {} of {}", sent.which, self.number);
        let seen = &mut self.counters[sent.which].seen;
        let result = sent.reply.wait();
        match self.context.settle(&name, seen, sent.begun, result)? {
            Outcome::Done(value) if value != sent.expected => Err(Error::Wrong(format!(
                "{name} was {value}, and {} was acknowledged",
                sent.expected
            ))),
            Outcome::Done(_) => Ok(()),
            Outcome::Lost => {
                self.counters[sent.which] = self.create(0)?;
                Ok(())
            }
        }
    }
}
