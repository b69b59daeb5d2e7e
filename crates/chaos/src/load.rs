//! Clients that use a cluster while faults are injected, and record what they observe.

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
use crucial_testing::{Cluster, Error, Result, wait_until};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The settings of a load.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The number of clients, each with a session of its own.
    pub clients: u64,
    /// The number of registers, of counters, and of queues.
    pub objects: u64,
    /// The number of replicas of each object.
    pub replicas: u8,
    /// The longest pause between two calls of a client.
    pub pause: Duration,
    /// The seed of the clients' calls.
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

/// The observations of all clients of a load.
struct Observations {
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

/// Running clients.
pub struct Load {
    objects: Arc<Objects>,
    observed: Arc<Observations>,
    threads: Vec<JoinHandle<Result<()>>>,
    owner: Arc<Client>,
}

/// The result of a load.
#[derive(Debug)]
pub struct Summary {
    /// The number of answered calls.
    pub calls: u64,
    /// The longest time without an answer.
    pub longest_pause: Duration,
    /// The number of objects whose history has too many orders to decide.
    pub undecided: usize,
}

impl Load {
    /// Creates the objects, and starts the clients.
    pub fn start(cluster: &Cluster, options: &LoadOptions) -> Result<Load> {
        let owner = cluster.client(0)?;
        let objects = caller::with(owner.clone(), || make(options))?;
        let objects = Arc::new(objects);
        let count = options.objects as usize;
        let observed = Arc::new(Observations {
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
            let (objects, observed) = (objects.clone(), observed.clone());
            let (random, pause) = (
                ChaCha8Rng::seed_from_u64(options.seed * 1000 + number),
                options.pause,
            );
            let work = move || {
                let done = caller::with(client.clone(), || {
                    run_client(number, &objects, &observed, random, pause)
                });
                client.goodbye()?;
                done
            };
            threads.push(std::thread::spawn(work));
        }
        Ok(Load {
            objects,
            observed,
            threads,
            owner,
        })
    }

    /// The number of calls that were answered so far.
    pub fn calls(&self) -> u64 {
        self.observed.calls.load(Ordering::Relaxed)
    }

    /// Waits until `more` further calls were answered.
    pub fn await_calls(&self, more: u64, patience: Duration) -> Result<()> {
        let until = self.calls() + more;
        wait_until("clients make progress", patience, || {
            Ok(self.calls() >= until)
        })
    }

    /// Ends the clients, whose observations [`finish`](Load::finish) checks.
    pub fn pause(mut self) -> Result<Load> {
        self.join()?;
        Ok(self)
    }

    fn join(&mut self) -> Result<()> {
        self.observed.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let done = thread.join();
            done.map_err(|_| Error::Wrong("a client panicked".to_owned()))??;
        }
        Ok(())
    }

    /// Ends the clients, and checks their observations: no errors, linearizable histories, exact totals, no item lost or
    /// duplicated.
    pub fn finish(mut self) -> Result<Summary> {
        self.join()?;
        caller::with(self.owner.clone(), || {
            check_counters(&self.objects, &self.observed)
        })?;
        caller::with(self.owner.clone(), || {
            check_queues(&self.objects, &self.observed)
        })?;
        let undecided = check_registers(&self.observed)?;
        self.owner.goodbye()?;
        Ok(Summary {
            calls: self.observed.calls.load(Ordering::Relaxed),
            longest_pause: Duration::from_millis(self.observed.longest_ms.load(Ordering::Relaxed)),
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

fn run_client(
    number: u64,
    objects: &Objects,
    observed: &Observations,
    mut random: ChaCha8Rng,
    pause: Duration,
) -> Result<()> {
    let mut item = number << 40;
    while !observed.stop.load(Ordering::Relaxed) {
        let which = random.random_range(0..objects.registers.len());
        let done = match random.random_range(0..4) {
            0 | 1 => use_register(number, which, objects, observed, &mut random),
            2 => objects.counters[which].fetch_add(1).map(|_| {
                observed.added[which].fetch_add(1, Ordering::Relaxed);
            }),
            _ => {
                item += 1;
                use_queue(which, item, objects, observed, &mut random)
            }
        };
        done.map_err(|error| {
            Error::Wrong(format!(
                "client {number} got an error: {} ({error})",
                error.kind()
            ))
        })?;
        observed.record_answer();
        let micros = random.random_range(0..=pause.as_micros() as u64);
        std::thread::sleep(Duration::from_micros(micros));
    }
    Ok(())
}

impl Observations {
    fn record_answer(&self) {
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
    observed: &Observations,
    random: &mut ChaCha8Rng,
) -> crucial::Result<()> {
    use RegisterOutput::{Done, Value};
    let (register, value) = (&objects.registers[which], random.random_range(0..1000));
    let input = match random.random_range(0..4) {
        0 => RegisterInput::FetchAdd(value),
        1 => RegisterInput::Store(value),
        _ => RegisterInput::Load,
    };
    let made = observed.recorder.record(number, which, input, || {
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
    observed: &Observations,
    random: &mut ChaCha8Rng,
) -> crucial::Result<()> {
    let queue = &objects.queues[which];
    if random.random() {
        queue.push(item)?;
        let mut pushed = observed.pushed.lock().unwrap_or_else(|e| e.into_inner());
        pushed[which].insert(item);
    } else if let Some(item) = queue.try_pop()? {
        let mut popped = observed.popped.lock().unwrap_or_else(|e| e.into_inner());
        popped[which].push(item);
    }
    Ok(())
}

fn check_counters(objects: &Objects, observed: &Observations) -> Result<()> {
    for (index, (counter, added)) in objects.counters.iter().zip(&observed.added).enumerate() {
        let (value, added) = (counter.load()?, added.load(Ordering::Relaxed));
        if value as u64 != added {
            return Err(Error::Wrong(format!(
                "counter {index} is {value}, and {added} additions of 1 were acknowledged"
            )));
        }
    }
    Ok(())
}

fn check_queues(objects: &Objects, observed: &Observations) -> Result<()> {
    let pushed = observed.pushed.lock().unwrap_or_else(|e| e.into_inner());
    let popped = observed.popped.lock().unwrap_or_else(|e| e.into_inner());
    for (index, queue) in objects.queues.iter().enumerate() {
        let mut out = popped[index].clone();
        while let Some(item) = queue.try_pop()? {
            out.push(item);
        }
        let distinct: BTreeSet<_> = out.iter().copied().collect();
        if distinct.len() < out.len() {
            return Err(Error::Wrong(format!(
                "queue {index} has returned an item twice"
            )));
        }
        if distinct != pushed[index] {
            let lost = pushed[index].difference(&distinct).count();
            return Err(Error::Wrong(format!("queue {index} has lost {lost} items")));
        }
    }
    Ok(())
}

/// Checks the registers' histories, and returns how many have too many orders to decide.
fn check_registers(observed: &Observations) -> Result<usize> {
    match check(&observed.recorder.history(), &Register(0)) {
        Ok(()) => Ok(0),
        Err(Failure::Undecided { .. }) => Ok(1),
        Err(failure) => Err(Error::Wrong(format!("not linearizable: {failure}"))),
    }
}
