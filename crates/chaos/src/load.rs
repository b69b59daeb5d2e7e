//! Clients that use a cluster while faults are injected, and record what they observe.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crucial::collections::Queue;
use crucial::sync::AtomicI64;
use crucial::{Shared, SharedType};
use crucial_client::Client;
use crucial_linear::models::{Register, RegisterInput, RegisterOutput};
use crucial_linear::{Failure, Recorder, check, write_history};
use crucial_object::caller;
use crucial_testing::{Cluster, Error, Result, wait_until};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::judge::{EpisodeNumber, Judge};

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
    /// Decides whether an object may be lost; `None`: no object may.
    pub judge: Option<Arc<Judge>>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions {
            clients: 6,
            objects: 3,
            replicas: 2,
            pause: Duration::from_millis(10),
            seed: 1,
            judge: None,
        }
    }
}

/// Which object: its number, and how many of this number were lost before it.
type Which = (usize, u64);

/// An object that is made anew, under another name, when it is lost.
struct Slot<T: SharedType> {
    /// The objects of this number so far; the last one is used.
    objects: Mutex<Vec<Shared<T>>>,
    /// When the last one was certainly there.
    since: AtomicU64,
    make: Box<dyn Fn(u64) -> crucial::Result<Shared<T>> + Send + Sync>,
}

struct Objects {
    registers: Vec<Slot<AtomicI64>>,
    counters: Vec<Slot<AtomicI64>>,
    queues: Vec<Slot<Queue<u64>>>,
    replicas: u8,
    judge: Option<Arc<Judge>>,
    /// Whose run the objects belong to.
    owner: Arc<Client>,
}

/// The observations of all clients of a load.
struct Observations {
    recorder: Recorder<Which, RegisterInput, RegisterOutput>,
    /// Acknowledged additions to each counter.
    added: Mutex<BTreeMap<Which, u64>>,
    pushed: Mutex<BTreeMap<Which, BTreeSet<u64>>>,
    popped: Mutex<BTreeMap<Which, Vec<u64>>>,
    calls: AtomicU64,
    /// The longest time without any answer, in milliseconds.
    longest_ms: AtomicU64,
    last: Mutex<Instant>,
    stop: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: SharedType> Slot<T> {
    fn new(
        make: impl Fn(u64) -> crucial::Result<Shared<T>> + Send + Sync + 'static,
    ) -> crucial::Result<Slot<T>> {
        Ok(Slot {
            objects: Mutex::new(vec![make(0)?]),
            since: AtomicU64::new(0),
            make: Box::new(make),
        })
    }

    /// The object that is used, and how many were lost before it.
    fn current(&self) -> (u64, Shared<T>) {
        let objects = lock(&self.objects);
        let last = objects.len() - 1;
        (last as u64, objects[last].clone())
    }

    /// Makes a call of the object. If the object is lost, the judge is told so, and a new object takes its place.
    fn call<R>(
        &self,
        objects: &Objects,
        call: impl FnOnce(u64, &Shared<T>) -> crucial::Result<R>,
    ) -> crucial::Result<Option<R>> {
        let now = || objects.judge.as_ref().map_or(0, |judge| judge.now());
        let begun = now() as u64;
        let (generation, object) = self.current();
        match (call(generation, &object), &objects.judge) {
            (Ok(result), _) => {
                if self.current().0 == generation {
                    self.since.fetch_max(begun, Ordering::Relaxed);
                }
                Ok(Some(result))
            }
            (Err(crucial::Error::Lost { .. }), Some(judge)) => {
                self.replace(generation, &object, judge, objects)?;
                Ok(None)
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Makes a new object in place of one that is lost, unless another client has done so.
    fn replace(
        &self,
        generation: u64,
        object: &Shared<T>,
        judge: &Judge,
        all: &Objects,
    ) -> crucial::Result<()> {
        let mut objects = lock(&self.objects);
        if objects.len() as u64 != generation + 1 {
            return Ok(());
        }
        let since = self.since.load(Ordering::Relaxed) as EpisodeNumber;
        judge.record_loss(&format!("{object:?}"), &object.id(), all.replicas, since);
        let begun = judge.now() as u64;
        // By the owner of the run, since the object must outlive this client. Lost while it is created: the next client
        // that is told so tries again.
        let make = || (self.make)(generation + 1);
        let made = match caller::with(all.owner.clone(), make) {
            Err(crucial::Error::Lost { .. }) => return Ok(()),
            made => made?,
        };
        objects.push(made);
        self.since.store(begun, Ordering::Relaxed);
        Ok(())
    }

    /// Whether all objects that were lost still say so.
    fn check_lost(&self, read: impl Fn(&Shared<T>) -> crucial::Result<()>) -> Result<()> {
        let objects = lock(&self.objects);
        for lost in &objects[..objects.len() - 1] {
            if !matches!(read(lost), Err(crucial::Error::Lost { .. })) {
                return Err(Error::Wrong(format!("{lost:?} was lost, and is back")));
            }
        }
        Ok(())
    }
}

/// Running clients.
pub struct Load {
    objects: Arc<Objects>,
    observed: Arc<Observations>,
    threads: Vec<JoinHandle<Result<()>>>,
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
        let objects = caller::with(owner.clone(), || make(options, &owner))?;
        let objects = Arc::new(objects);
        let observed = Arc::new(Observations {
            recorder: Recorder::new(),
            added: Mutex::default(),
            pushed: Mutex::default(),
            popped: Mutex::default(),
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

    /// Fails if a client has failed.
    ///
    /// # Errors
    ///
    /// The client's.
    pub fn check(&mut self) -> Result<()> {
        match self.threads.iter().any(JoinHandle::is_finished) {
            true => self.join(),
            false => Ok(()),
        }
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
    pub fn finish(self) -> Result<Summary> {
        self.finish_with(None)
    }

    /// The same, and writes the registers' histories to a file (`docs/history.md`) before they are checked.
    pub fn finish_with(mut self, history: Option<&Path>) -> Result<Summary> {
        self.join()?;
        if let Some(path) = history {
            export(&self.observed, path)?;
        }
        caller::with(self.objects.owner.clone(), || {
            check_counters(&self.objects, &self.observed)?;
            check_queues(&self.objects, &self.observed)?;
            for register in &self.objects.registers {
                register.check_lost(|register| register.load().map(drop))?;
            }
            Ok::<_, Error>(())
        })?;
        let undecided = check_registers(&self.observed)?;
        self.objects.owner.goodbye()?;
        Ok(Summary {
            calls: self.observed.calls.load(Ordering::Relaxed),
            longest_pause: Duration::from_millis(self.observed.longest_ms.load(Ordering::Relaxed)),
            undecided,
        })
    }
}

/// Writes the registers' histories.
fn export(observed: &Observations, path: &Path) -> Result<()> {
    let name = |(number, lost): &Which| format!("register-{number}.{lost}");
    let write = || {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        let history = observed.recorder.history();
        write_history(&history, &Register(0), name, &mut file)?;
        file.flush()
    };
    write().map_err(|source| Error::Io {
        what: format!("write {}", path.display()),
        source,
    })
}

fn make(options: &LoadOptions, owner: &Arc<Client>) -> crucial::Result<Objects> {
    let replicas = options.replicas;
    let number = |kind: &'static str, index: u64| {
        Slot::new(move |lost| {
            Shared::builder(format!("{kind}-{index}.{lost}"))
                .replicas(replicas)
                .create(AtomicI64::new(0))
        })
    };
    let queue = |index: u64| {
        Slot::new(move |lost| {
            Shared::builder(format!("queue-{index}.{lost}"))
                .replicas(replicas)
                .create(Queue::default())
        })
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
        replicas,
        judge: options.judge.clone(),
        owner: owner.clone(),
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
            2 => objects.counters[which]
                .call(objects, |lost, counter| {
                    counter.fetch_add(1)?;
                    *lock(&observed.added).entry((which, lost)).or_default() += 1;
                    Ok(())
                })
                .map(drop),
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
    let value = random.random_range(0..1000);
    let input = match random.random_range(0..4) {
        0 => RegisterInput::FetchAdd(value),
        1 => RegisterInput::Store(value),
        _ => RegisterInput::Load,
    };
    let made = objects.registers[which].call(objects, |lost, register| {
        let recorder = &observed.recorder;
        recorder.record(number, (which, lost), input, || {
            Ok::<_, crucial::Error>(match input {
                RegisterInput::FetchAdd(value) => Value(register.fetch_add(value)?),
                RegisterInput::Store(value) => {
                    register.store(value)?;
                    Done
                }
                _ => Value(register.load()?),
            })
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
    let pushes = random.random();
    let used = objects.queues[which].call(objects, |lost, queue| {
        let which = (which, lost);
        if pushes {
            queue.push(item)?;
            lock(&observed.pushed)
                .entry(which)
                .or_default()
                .insert(item);
        } else if let Some(item) = queue.try_pop()? {
            lock(&observed.popped).entry(which).or_default().push(item);
        }
        Ok(())
    });
    used.map(drop)
}

fn check_counters(objects: &Objects, observed: &Observations) -> Result<()> {
    for (index, slot) in objects.counters.iter().enumerate() {
        slot.check_lost(|counter| counter.load().map(drop))?;
        let read = |lost, counter: &Shared<AtomicI64>| Ok((lost, counter.load()?));
        let Some((lost, value)) = slot.call(objects, read)? else {
            continue;
        };
        let added = lock(&observed.added).get(&(index, lost)).copied();
        let added = added.unwrap_or_default();
        if value as u64 != added {
            return Err(Error::Wrong(format!(
                "counter {index}.{lost} is {value}, and {added} additions of 1 were acknowledged"
            )));
        }
    }
    Ok(())
}

fn check_queues(objects: &Objects, observed: &Observations) -> Result<()> {
    for (index, slot) in objects.queues.iter().enumerate() {
        slot.check_lost(|queue| queue.len().map(drop))?;
        let rest = slot.call(objects, |lost, queue| {
            let mut rest = Vec::new();
            while let Some(item) = queue.try_pop()? {
                rest.push(item);
            }
            Ok((lost, rest))
        })?;
        if let Some((lost, rest)) = rest {
            lock(&observed.popped)
                .entry((index, lost))
                .or_default()
                .extend(rest);
        }
        let (current, _) = slot.current();
        for lost in 0..=current {
            check_queue((index, lost), lost == current, observed)?;
        }
    }
    Ok(())
}

/// Checks the items of a queue: those of one that is lost must not be twice, those of another must all be there.
fn check_queue(which: Which, is_there: bool, observed: &Observations) -> Result<()> {
    let (index, lost) = which;
    let popped = lock(&observed.popped).get(&which).cloned();
    let popped = popped.unwrap_or_default();
    let pushed = lock(&observed.pushed).get(&which).cloned();
    let pushed = pushed.unwrap_or_default();
    let distinct: BTreeSet<_> = popped.iter().copied().collect();
    if distinct.len() < popped.len() {
        return Err(Error::Wrong(format!(
            "queue {index}.{lost} has returned an item twice"
        )));
    }
    if is_there && distinct != pushed {
        let missing = pushed.difference(&distinct).count();
        return Err(Error::Wrong(format!(
            "queue {index}.{lost} has lost {missing} items"
        )));
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
