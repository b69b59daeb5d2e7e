//! Which objects have an instance in memory.
//!
//! An object is hot, in an instance of its module, or cold: the bytes of its state. A call heats it. When there are
//! more than [`instances_max`](crate::Limits::instances_max) instances, or they take more than
//! [`instances_bytes_max`](crate::Limits::instances_bytes_max), a thread cools those that were not called for
//! longest, as nearly as the clock algorithm tells: each gets a second chance if it was called since it was last
//! looked at. Saving an object is its own code, which may be slow or fail; so no call waits for it but those of the
//! same object, and one that can not be saved stays hot.
//!
//! With twice as many, a new call waits for a moment, and is refused. What an object owes to others, as to calls that
//! wait in it, is done in any case, in an instance that goes right after: one for each thread that executes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crucial_object::{Age, Error, Result};
use parking_lot::{Condvar, Mutex};

use crate::Limits;
use crate::instance::Guest;
use crate::module::Module;

/// How long a call waits for others to be cooled when there are twice as many instances as there may be.
const PATIENCE: Duration = Duration::from_secs(1);

/// A pause of the cooling thread, when all instances are in use.
const PAUSE: Duration = Duration::from_millis(2);

/// Where an object is.
pub(crate) struct Place {
    pub module: Arc<Module>,
    pub type_name: Arc<str>,
    /// Called since it was last looked at.
    used: AtomicBool,
    /// Locked while a call is in it; and while it is cooled, of which only its own calls take notice.
    state: Mutex<State>,
}

enum State {
    Hot(Box<Guest>, Counted),
    Cold(Box<[u8]>),
}

/// Whether there may be an instance more for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Room {
    /// If there is room. A call that has done nothing yet can be refused.
    Asked,
    /// In any case: a call waits in the object or is taken back, a session has ended, and there is nobody to be told
    /// that it was not done.
    Owed,
}

impl Place {
    /// A hot object, from its encoded state.
    pub fn new(
        module: &Arc<Module>,
        type_name: &str,
        state: &[u8],
        age: Age,
    ) -> Result<Arc<Place>> {
        let mut counted = module.engine().hot.count(&module.counts)?;
        let guest = Guest::restored(module, type_name, state, age)?;
        counted.resize(guest.size());
        let place = Arc::new(Place {
            module: module.clone(),
            type_name: type_name.into(),
            used: AtomicBool::new(true),
            state: Mutex::new(State::Hot(Box::new(guest), counted)),
        });
        module.engine().hot.enter(&place);
        Ok(place)
    }

    /// Lets `f` have the instance; heats the object if need be.
    pub fn with<R>(
        self: &Arc<Self>,
        room: Room,
        f: impl FnOnce(&mut Guest) -> Result<R>,
    ) -> Result<R> {
        self.used.store(true, Ordering::Relaxed);
        let mut state = self.state.lock();
        if let State::Cold(bytes) = &*state {
            let hot = &self.module.engine().hot;
            let counted = match room {
                Room::Asked => hot.count(&self.module.counts)?,
                Room::Owed => match hot.count_now(&self.module.counts) {
                    Some(counted) => counted,
                    None => return self.with_passing(&mut state, f),
                },
            };
            let guest = self.heated(bytes)?;
            *state = State::Hot(Box::new(guest), counted);
            hot.enter(self);
        }
        match &mut *state {
            State::Hot(guest, counted) => {
                let result = f(guest);
                counted.resize(guest.size());
                if matches!(result, Err(Error::Panicked { .. })) {
                    // The object is what the method left behind. The instance may be more than that: memory that
                    // was taken and never given back. So it goes, if the object can be had without it.
                    let mut bytes = Vec::new();
                    if guest.save(&mut bytes).is_ok() {
                        *state = State::Cold(bytes.into());
                    }
                }
                result
            }
            State::Cold(_) => unreachable!("it was heated"),
        }
    }

    /// Lets `f` have an instance that goes right after, and is there beyond what may be. What it did has not happened
    /// if it can not be saved.
    fn with_passing<R>(
        &self,
        state: &mut State,
        f: impl FnOnce(&mut Guest) -> Result<R>,
    ) -> Result<R> {
        let State::Cold(bytes) = state else {
            unreachable!("a hot object has its instance");
        };
        let mut counted = self.module.engine().hot.count_beyond(&self.module.counts);
        let mut guest = self.heated(bytes)?;
        let result = f(&mut guest);
        counted.resize(guest.size());
        let mut after = Vec::new();
        match (guest.save(&mut after), &result) {
            (Ok(()), _) => *bytes = after.into(),
            (Err(_), Err(_)) => {}
            (Err(error), Ok(_)) => {
                return Err(Error::Panicked {
                    what: self.type_name.to_string(),
                    message: format!("it can not be saved: {error}"),
                    location: "its sandbox".to_owned(),
                });
            }
        }
        result
    }

    /// An instance for a cold object.
    fn heated(&self, bytes: &[u8]) -> Result<Guest> {
        let guest = Guest::restored(&self.module, &self.type_name, bytes, Age::Same)?;
        self.module.counts.heated.fetch_add(1, Ordering::Relaxed);
        Ok(guest)
    }

    /// Appends the encoded state; a cold object stays so.
    pub fn save(&self, out: &mut Vec<u8>) -> Result<()> {
        match &mut *self.state.lock() {
            State::Hot(guest, _) => guest.save(out),
            State::Cold(bytes) => {
                out.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    fn cool(&self) -> Cooled {
        let Some(mut state) = self.state.try_lock() else {
            return Cooled::Later;
        };
        let State::Hot(guest, _) = &mut *state else {
            return Cooled::Done;
        };
        let mut bytes = Vec::new();
        match guest.save(&mut bytes) {
            Ok(()) => {
                *state = State::Cold(bytes.into());
                Cooled::Done
            }
            Err(error) => {
                tracing::warn!(type_name = &*self.type_name, %error, "an object stays in memory, as it can not be saved");
                Cooled::Never
            }
        }
    }
}

enum Cooled {
    Done,
    /// A call is in it.
    Later,
    Never,
}

/// Of one module.
#[derive(Default)]
pub(crate) struct Counts {
    /// Hot objects.
    hot: AtomicUsize,
    /// How often a cold one was heated.
    heated: AtomicU64,
}

impl Module {
    /// How many objects of its types have an instance in memory.
    pub fn hot(&self) -> usize {
        self.counts.hot.load(Ordering::Relaxed)
    }

    /// How often a call found an object of its types cold, and heated it.
    pub fn heated(&self) -> u64 {
        self.counts.heated.load(Ordering::Relaxed)
    }
}

/// All hot objects of an engine.
pub(crate) struct Hot {
    inner: Arc<Inner>,
}

struct Inner {
    instances_max: usize,
    bytes_max: usize,
    state: Mutex<Queue>,
    /// There is something to cool, or no more to do at all.
    over: Condvar,
    /// An instance went.
    under: Condvar,
}

enum Exceeded {
    Instances,
    Bytes,
}

#[derive(Default)]
struct Queue {
    /// The hand of the clock is at the front.
    places: VecDeque<Weak<Place>>,
    instances: usize,
    bytes: usize,
    closed: bool,
}

impl Inner {
    fn is_over(&self, queue: &Queue, times: usize) -> bool {
        self.exceeded(queue, times).is_some()
    }

    /// The limit that is exceeded so many times.
    fn exceeded(&self, queue: &Queue, times: usize) -> Option<Exceeded> {
        if queue.instances > self.instances_max.saturating_mul(times) {
            Some(Exceeded::Instances)
        } else if queue.bytes > self.bytes_max.saturating_mul(times) {
            Some(Exceeded::Bytes)
        } else {
            None
        }
    }

    fn counted(self: &Arc<Self>, queue: &mut Queue, counts: &Arc<Counts>) -> Counted {
        queue.instances += 1;
        counts.hot.fetch_add(1, Ordering::Relaxed);
        Counted {
            inner: self.clone(),
            counts: counts.clone(),
            bytes: 0,
        }
    }

    fn error(&self, exceeded: Exceeded) -> Error {
        let (limit, max, detail) = match exceeded {
            Exceeded::Instances => (
                "instances_max",
                self.instances_max,
                "so many uploaded objects are in use at this moment, or can not be saved",
            ),
            Exceeded::Bytes => (
                "instances_bytes_max",
                self.bytes_max,
                "uploaded objects that are in use at this moment, or can not be saved, take as many bytes",
            ),
        };
        Error::LimitExceeded {
            limit: limit.to_owned(),
            max: max as u64,
            detail: detail.to_owned(),
        }
    }
}

impl Hot {
    /// None yet; and the thread that cools.
    pub fn new(limits: &Limits) -> std::io::Result<Hot> {
        let inner = Arc::new(Inner {
            instances_max: limits.instances_max.max(1),
            bytes_max: limits.instances_bytes_max,
            state: Mutex::default(),
            over: Condvar::new(),
            under: Condvar::new(),
        });
        let theirs = inner.clone();
        std::thread::Builder::new()
            .name("crucial-cool".to_owned())
            .spawn(move || cool(&theirs))?;
        Ok(Hot { inner })
    }

    /// How many instances there are.
    pub fn len(&self) -> usize {
        self.inner.state.lock().instances
    }

    /// Counts an instance that is to be made; waits for a moment until there may be one more.
    fn count(&self, counts: &Arc<Counts>) -> Result<Counted> {
        let inner = &self.inner;
        let mut queue = inner.state.lock();
        let mut deadline = None;
        while let Some(exceeded) = inner.exceeded(&queue, 2) {
            inner.over.notify_one();
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
            if inner.under.wait_until(&mut queue, deadline).timed_out() {
                return Err(inner.error(exceeded));
            }
        }
        Ok(inner.counted(&mut queue, counts))
    }

    /// Counts an instance that is to be made, if there may be one more.
    fn count_now(&self, counts: &Arc<Counts>) -> Option<Counted> {
        let mut queue = self.inner.state.lock();
        let is_over = self.inner.is_over(&queue, 2);
        (!is_over).then(|| self.inner.counted(&mut queue, counts))
    }

    /// Counts an instance that is to be made, and to go again soon.
    fn count_beyond(&self, counts: &Arc<Counts>) -> Counted {
        self.inner.counted(&mut self.inner.state.lock(), counts)
    }

    /// The object is hot.
    fn enter(&self, place: &Arc<Place>) {
        let mut queue = self.inner.state.lock();
        queue.places.push_back(Arc::downgrade(place));
        if self.inner.is_over(&queue, 1) {
            self.inner.over.notify_one();
        }
    }
}

impl Drop for Hot {
    fn drop(&mut self) {
        self.inner.state.lock().closed = true;
        self.inner.over.notify_one();
    }
}

/// An instance, as long as it is there.
struct Counted {
    inner: Arc<Inner>,
    counts: Arc<Counts>,
    bytes: usize,
}

impl Counted {
    /// It takes so many bytes now.
    fn resize(&mut self, bytes: usize) {
        if bytes == self.bytes {
            return;
        }
        let mut queue = self.inner.state.lock();
        queue.bytes = queue.bytes - self.bytes + bytes;
        self.bytes = bytes;
        if self.inner.is_over(&queue, 1) {
            self.inner.over.notify_one();
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut queue = self.inner.state.lock();
        queue.instances -= 1;
        queue.bytes -= self.bytes;
        self.counts.hot.fetch_sub(1, Ordering::Relaxed);
        self.inner.under.notify_all();
    }
}

fn cool(inner: &Inner) {
    // How many were looked at in vain, one after the other.
    let mut in_vain = 0;
    let mut queue = inner.state.lock();
    while !queue.closed {
        if !inner.is_over(&queue, 1) || queue.places.is_empty() {
            in_vain = 0;
            inner.over.wait(&mut queue);
            continue;
        }
        // Each has had its second chance, and was in use.
        if in_vain > 2 * queue.places.len() {
            in_vain = 0;
            inner.over.wait_for(&mut queue, PAUSE);
            continue;
        }
        let next = queue.places.pop_front();
        let Some(place) = next.and_then(|place| place.upgrade()) else {
            continue;
        };
        let cooled = if place.used.swap(false, Ordering::Relaxed) {
            Cooled::Later
        } else {
            drop(queue);
            let cooled = place.cool();
            queue = inner.state.lock();
            cooled
        };
        match cooled {
            Cooled::Later => {
                in_vain += 1;
                queue.places.push_back(Arc::downgrade(&place));
            }
            Cooled::Done | Cooled::Never => in_vain = 0,
        }
        // The last reference may be this one, and its end counts.
        drop(queue);
        drop(place);
        queue = inner.state.lock();
    }
}
