//! Many small objects: counters that one thread each adds to.

use std::collections::VecDeque;
use std::sync::mpsc;

use crucial::sync::AtomicI64;
use crucial::{Pending, Shared};
use crucial_object::caller;
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

/// The threads that create the objects of a thread.
const CREATORS: u64 = 16;

/// Starts the threads that add to `count` counters, and waits until they have created them.
///
/// # Errors
///
/// If a client cannot connect, or a thread ends before.
pub fn start(workers: &mut Workers, context: &Context, count: u64) -> Result<()> {
    let (filled, all_filled) = mpsc::channel();
    let threads = THREADS.min(count);
    for number in 0..threads {
        let own = count / THREADS + u64::from(number < count % THREADS);
        let filled = filled.clone();
        workers.start(context, format!("small {number}"), move |context| {
            let mut counters = Counters {
                context,
                number,
                generation: 0,
                counters: fill(context, number, own)?,
            };
            // Nobody listens any more after another thread has failed.
            let _ = filled.send(());
            drop(filled);
            counters.run()
        })?;
    }
    drop(filled);
    match all_filled.iter().count() as u64 == threads {
        true => Ok(()),
        // A thread has failed: its error says more.
        false => workers.check(),
    }
}

/// Creates the objects of a thread.
fn fill(context: &Context, number: u64, count: u64) -> Result<Vec<Counter>> {
    let client = caller::current()?;
    let create_some = |creator: u64| {
        let name = format!("{number}-{creator}");
        let own = (0..count).filter(|value| value % CREATORS == creator);
        let mut generation = 0;
        let mut create = |value: u64| create(context, &name, &mut generation, value as i64);
        own.map(&mut create).collect::<Result<Vec<_>>>()
    };
    std::thread::scope(|scope| {
        let creators: Vec<_> = (0..CREATORS)
            .map(|creator| {
                let (client, create_some) = (client.clone(), &create_some);
                scope.spawn(move || caller::with(client, || create_some(creator)))
            })
            .collect();
        let mut counters = Vec::new();
        for creator in creators {
            let created = creator.join();
            counters.extend(created.map_err(|_| Error::Wrong("a creator panicked".to_owned()))??);
        }
        Ok(counters)
    })
}

fn create(context: &Context, name: &str, generation: &mut u64, value: i64) -> Result<Counter> {
    let (handle, since) = context.create(generation, |generation| {
        Shared::builder(format!("small-{name}.{generation}"))
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
    fn run(&mut self) -> Result<String> {
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
                let name = format!("{}-again", self.number);
                self.counters[sent.which] = create(self.context, &name, &mut self.generation, 0)?;
                Ok(())
            }
        }
    }
}
