//! What uses a cluster while bad things happen to it, and writes down what it saw.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crucial::Shared;
use crucial::collections::Queue;
use crucial::sync::AtomicI64;
use crucial_client::Client;
use crucial_linear::models::{Register, RegisterInput, RegisterOutput};
use crucial_linear::{Failure, Recorder, check};
use crucial_object::caller;

use crate::{Cluster, Error, Random, Result};

/// How a load is made.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Clients, each a session of its own.
    pub clients: u64,
    /// Registers, counters and queues, of each so many.
    pub objects: u64,
    /// On how many servers each object is.
    pub replicas: u8,
    /// Between two calls of a client, at most.
    pub pause: Duration,
    /// For what the clients do.
    pub seed: u64,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions {
            clients: 6,
            objects: 3,
            replicas: 2,
            pause: Duration::from_millis(10),
            seed: 1,
        }
    }
}

struct Objects {
    registers: Vec<Shared<AtomicI64>>,
    counters: Vec<Shared<AtomicI64>>,
    queues: Vec<Shared<Queue<u64>>>,
}

/// What all clients of a load share.
struct Notes {
    recorder: Recorder<usize, RegisterInput, RegisterOutput>,
    /// Acknowledged additions to each counter.
    added: Vec<AtomicU64>,
    pushed: Mutex<Vec<BTreeSet<u64>>>,
    popped: Mutex<Vec<Vec<u64>>>,
    calls: AtomicU64,
    /// The longest time without any answer, in milliseconds.
    longest_ms: AtomicU64,
    last: Mutex<Instant>,
    stop: AtomicBool,
}

/// Clients at work.
pub struct Load {
    objects: Arc<Objects>,
    notes: Arc<Notes>,
    threads: Vec<JoinHandle<Result<()>>>,
    owner: Arc<Client>,
}

/// What they saw.
#[derive(Debug)]
pub struct Seen {
    /// Calls that were answered.
    pub calls: u64,
    /// The longest time in which none was.
    pub longest_pause: Duration,
    /// Objects whose history has too many orders to decide.
    pub undecided: usize,
}

impl Load {
    /// Makes the objects, and starts the clients.
    pub fn start(cluster: &Cluster, options: &LoadOptions) -> Result<Load> {
        let owner = cluster.client(0)?;
        let objects = caller::with(owner.clone(), || make(options))?;
        let objects = Arc::new(objects);
        let count = options.objects as usize;
        let notes = Arc::new(Notes {
            recorder: Recorder::new(),
            added: (0..count).map(|_| AtomicU64::new(0)).collect(),
            pushed: Mutex::new(vec![BTreeSet::new(); count]),
            popped: Mutex::new(vec![Vec::new(); count]),
            calls: AtomicU64::new(0),
            longest_ms: AtomicU64::new(0),
            last: Mutex::new(Instant::now()),
            stop: AtomicBool::new(false),
        });
        let mut threads = Vec::new();
        for number in 0..options.clients {
            let client = cluster.client(number as usize % cluster.len())?;
            let (objects, notes) = (objects.clone(), notes.clone());
            let (random, pause) = (Random::new(options.seed * 1000 + number), options.pause);
            let work = move || {
                let done = caller::with(client.clone(), || {
                    use_them(number, &objects, &notes, random, pause)
                });
                client.goodbye()?;
                done
            };
            threads.push(std::thread::spawn(work));
        }
        Ok(Load {
            objects,
            notes,
            threads,
            owner,
        })
    }

    /// Calls that were answered so far.
    pub fn calls(&self) -> u64 {
        self.notes.calls.load(Ordering::Relaxed)
    }

    /// Waits until so many more calls were answered.
    pub fn await_calls(&self, more: u64, patience: Duration) -> Result<()> {
        let until = self.calls() + more;
        crate::wait_until("clients get on", patience, || Ok(self.calls() >= until))
    }

    /// Ends the clients; what they saw is to be checked by [`finish`](Load::finish).
    pub fn pause(mut self) -> Result<Load> {
        self.join()?;
        Ok(self)
    }

    fn join(&mut self) -> Result<()> {
        self.notes.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let done = thread.join();
            done.map_err(|_| Error::Wrong("a client panicked".to_owned()))??;
        }
        Ok(())
    }

    /// Ends the clients, and checks what they saw: no error, linearizable histories, exact totals, nothing lost
    /// and nothing twice.
    pub fn finish(mut self) -> Result<Seen> {
        self.join()?;
        caller::with(self.owner.clone(), || {
            check_counters(&self.objects, &self.notes)
        })?;
        caller::with(self.owner.clone(), || {
            check_queues(&self.objects, &self.notes)
        })?;
        let undecided = check_registers(&self.notes)?;
        self.owner.goodbye()?;
        Ok(Seen {
            calls: self.notes.calls.load(Ordering::Relaxed),
            longest_pause: Duration::from_millis(self.notes.longest_ms.load(Ordering::Relaxed)),
            undecided,
        })
    }
}

fn make(options: &LoadOptions) -> crucial::Result<Objects> {
    let number = |kind: &str, index: u64| {
        Shared::builder(format!("{kind}-{index}"))
            .replicas(options.replicas)
            .create(AtomicI64::new(0))
    };
    let queue = |index: u64| {
        Shared::builder(format!("queue-{index}"))
            .replicas(options.replicas)
            .create(Queue::default())
    };
    let all = || 0..options.objects;
    Ok(Objects {
        registers: all()
            .map(|i| number("register", i))
            .collect::<crucial::Result<_>>()?,
        counters: all()
            .map(|i| number("counter", i))
            .collect::<crucial::Result<_>>()?,
        queues: all().map(queue).collect::<crucial::Result<_>>()?,
    })
}

fn use_them(
    number: u64,
    objects: &Objects,
    notes: &Notes,
    mut random: Random,
    pause: Duration,
) -> Result<()> {
    let mut item = number << 40;
    while !notes.stop.load(Ordering::Relaxed) {
        let which = random.below(objects.registers.len() as u64) as usize;
        let done = match random.below(4) {
            0 | 1 => use_register(number, which, objects, notes, &mut random),
            2 => objects.counters[which].fetch_add(1).map(|_| {
                notes.added[which].fetch_add(1, Ordering::Relaxed);
            }),
            _ => {
                item += 1;
                use_queue(which, item, objects, notes, &mut random)
            }
        };
        done.map_err(|error| {
            Error::Wrong(format!(
                "client {number} got an error: {} ({error})",
                error.kind()
            ))
        })?;
        notes.answered();
        let micros = random.below(pause.as_micros() as u64);
        std::thread::sleep(Duration::from_micros(micros));
    }
    Ok(())
}

impl Notes {
    fn answered(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut last = self.last.lock().unwrap_or_else(|e| e.into_inner());
        let pause = last.elapsed().as_millis() as u64;
        self.longest_ms.fetch_max(pause, Ordering::Relaxed);
        *last = Instant::now();
    }
}

fn use_register(
    number: u64,
    which: usize,
    objects: &Objects,
    notes: &Notes,
    random: &mut Random,
) -> crucial::Result<()> {
    use RegisterOutput::{Done, Value};
    let (register, value) = (&objects.registers[which], random.below(1000) as i64);
    let input = match random.below(4) {
        0 => RegisterInput::FetchAdd(value),
        1 => RegisterInput::Store(value),
        _ => RegisterInput::Load,
    };
    let made = notes.recorder.record(number, which, input, || {
        Ok::<_, crucial::Error>(match input {
            RegisterInput::FetchAdd(value) => Value(register.fetch_add(value)?),
            RegisterInput::Store(value) => {
                register.store(value)?;
                Done
            }
            _ => Value(register.load()?),
        })
    });
    made.map(drop)
}

fn use_queue(
    which: usize,
    item: u64,
    objects: &Objects,
    notes: &Notes,
    random: &mut Random,
) -> crucial::Result<()> {
    let queue = &objects.queues[which];
    if random.below(2) == 0 {
        queue.push(item)?;
        let mut pushed = notes.pushed.lock().unwrap_or_else(|e| e.into_inner());
        pushed[which].insert(item);
    } else if let Some(item) = queue.try_pop()? {
        let mut popped = notes.popped.lock().unwrap_or_else(|e| e.into_inner());
        popped[which].push(item);
    }
    Ok(())
}

fn check_counters(objects: &Objects, notes: &Notes) -> Result<()> {
    for (index, (counter, added)) in objects.counters.iter().zip(&notes.added).enumerate() {
        let (value, added) = (counter.load()?, added.load(Ordering::Relaxed));
        if value as u64 != added {
            return Err(Error::Wrong(format!(
                "counter {index} is {value}, and {added} additions of 1 were acknowledged"
            )));
        }
    }
    Ok(())
}

fn check_queues(objects: &Objects, notes: &Notes) -> Result<()> {
    let pushed = notes.pushed.lock().unwrap_or_else(|e| e.into_inner());
    let popped = notes.popped.lock().unwrap_or_else(|e| e.into_inner());
    for (index, queue) in objects.queues.iter().enumerate() {
        let mut out = popped[index].clone();
        while let Some(item) = queue.try_pop()? {
            out.push(item);
        }
        let distinct: BTreeSet<_> = out.iter().copied().collect();
        if distinct.len() < out.len() {
            return Err(Error::Wrong(format!("queue {index} gave an item twice")));
        }
        if distinct != pushed[index] {
            let lost = pushed[index].difference(&distinct).count();
            return Err(Error::Wrong(format!("queue {index} has lost {lost} items")));
        }
    }
    Ok(())
}

/// How many histories have too many orders to decide.
fn check_registers(notes: &Notes) -> Result<usize> {
    match check(&notes.recorder.history(), &Register(0)) {
        Ok(()) => Ok(0),
        Err(Failure::Undecided { .. }) => Ok(1),
        Err(failure) => Err(Error::Wrong(format!("not linearizable: {failure}"))),
    }
}
