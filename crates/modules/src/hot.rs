//! The limit on objects in memory, and the thread that enforces it.
//!
//! When there are more than [`instances_max`](crate::Limits::instances_max) instances, or they take more than
//! [`instances_bytes_max`](crate::Limits::instances_bytes_max), a thread cools the least recently called objects, as
//! approximated by the clock algorithm: an object that was called since the hand last passed gets a second chance.
//! Saving an object runs the object's own code, which may be slow or fail. So no lock of this module is held
//! meanwhile, only calls of the same object wait, and an object that cannot be saved stays hot.
//!
//! At twice the limit, a reservation waits for a moment and is then refused. Mandatory work is done anyway, in a
//! temporary instance beyond the limit: at most one for each executing thread.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crucial_object::{Error, Result};
use parking_lot::{Condvar, Mutex};

use crate::limits::Limits;

/// How long a reservation waits at twice the limit.
const RESERVATION_TIMEOUT: Duration = Duration::from_secs(1);

/// Pause of the cooling thread while all instances are in use.
const COOLING_PAUSE: Duration = Duration::from_millis(2);

/// Whether the work of an object may be refused for lack of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Admission {
    /// The work may be refused: a new call has had no effect yet.
    Refusable,
    /// The work must be done, since nobody could be told of a refusal: a parked call is polled or cancelled, or a
    /// session has ended.
    Mandatory,
}

/// An object that the cooling thread can turn into bytes.
pub(crate) trait Coolable: Send + Sync {
    /// Returns whether the object was called since the last invocation of this function.
    fn take_used(&self) -> bool;

    /// Replaces the object's instance by its encoded state.
    fn cool(&self) -> CoolOutcome;
}

pub(crate) enum CoolOutcome {
    /// The object is cold.
    Cold,
    /// A call is executing in the object.
    Busy,
    /// The object cannot be saved and stays hot.
    Unsavable,
}

/// Counters of one module.
#[derive(Default)]
pub(crate) struct ModuleCounters {
    /// Objects that are hot.
    pub hot: AtomicUsize,
    /// How many times a cold object was heated.
    pub heated: AtomicU64,
}

/// The hot objects of an engine.
pub(crate) struct HotObjects {
    shared: Arc<HotShared>,
}

/// The part of [`HotObjects`] that its thread and all reservations share.
struct HotShared {
    instances_max: usize,
    bytes_max: usize,
    clock: Mutex<ClockQueue>,
    /// Notified when a limit is exceeded or the engine is dropped.
    limit_exceeded: Condvar,
    /// Notified when an instance is dropped.
    instance_dropped: Condvar,
}

enum ExceededLimit {
    Instances,
    Bytes,
}

#[derive(Default)]
struct ClockQueue {
    /// The hand of the clock is at the front.
    objects: VecDeque<Weak<dyn Coolable>>,
    instances: usize,
    bytes: usize,
    closed: bool,
}

impl HotShared {
    fn is_over(&self, clock: &ClockQueue, factor: usize) -> bool {
        self.exceeded_limit(clock, factor).is_some()
    }

    /// The limit of which more than `factor` times the allowed amount is in use.
    fn exceeded_limit(&self, clock: &ClockQueue, factor: usize) -> Option<ExceededLimit> {
        if clock.instances > self.instances_max.saturating_mul(factor) {
            Some(ExceededLimit::Instances)
        } else if clock.bytes > self.bytes_max.saturating_mul(factor) {
            Some(ExceededLimit::Bytes)
        } else {
            None
        }
    }

    fn add_instance(
        self: &Arc<Self>,
        clock: &mut ClockQueue,
        counters: &Arc<ModuleCounters>,
    ) -> Reservation {
        clock.instances += 1;
        counters.hot.fetch_add(1, Ordering::Relaxed);
        Reservation {
            shared: self.clone(),
            counters: counters.clone(),
            bytes: 0,
        }
    }

    fn error(&self, exceeded: ExceededLimit) -> Error {
        let (limit, max, detail) = match exceeded {
            ExceededLimit::Instances => (
                "instances_max",
                self.instances_max,
                "too many uploaded objects are in use at the same time, or cannot be saved",
            ),
            ExceededLimit::Bytes => (
                "instances_bytes_max",
                self.bytes_max,
                "uploaded objects that are in use, or cannot be saved, take too much memory",
            ),
        };
        Error::LimitExceeded {
            limit: limit.to_owned(),
            max: max as u64,
            detail: detail.to_owned(),
        }
    }
}

impl HotObjects {
    /// Starts the cooling thread.
    pub fn new(limits: &Limits) -> std::io::Result<HotObjects> {
        let shared = Arc::new(HotShared {
            instances_max: limits.instances_max.max(1),
            bytes_max: limits.instances_bytes_max,
            clock: Mutex::default(),
            limit_exceeded: Condvar::new(),
            instance_dropped: Condvar::new(),
        });
        let of_thread = shared.clone();
        crucial_local::thread::start("crucial-cool", move || cool_objects(&of_thread))?;
        Ok(HotObjects { shared })
    }

    /// The number of instances in memory.
    pub fn len(&self) -> usize {
        self.shared.clock.lock().instances
    }

    /// Reserves a new instance. At twice the limit, waits for a moment, and then fails.
    pub fn reserve(&self, counters: &Arc<ModuleCounters>) -> Result<Reservation> {
        let shared = &self.shared;
        let mut clock = shared.clock.lock();
        let mut deadline = None;
        while let Some(exceeded) = shared.exceeded_limit(&clock, 2) {
            shared.limit_exceeded.notify_one();
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + RESERVATION_TIMEOUT);
            let waited = shared.instance_dropped.wait_until(&mut clock, deadline);
            if waited.timed_out() {
                return Err(shared.error(exceeded));
            }
        }
        Ok(shared.add_instance(&mut clock, counters))
    }

    /// Reserves a new instance without waiting; `None` at twice the limit.
    pub fn try_reserve(&self, counters: &Arc<ModuleCounters>) -> Option<Reservation> {
        let mut clock = self.shared.clock.lock();
        let is_over = self.shared.is_over(&clock, 2);
        (!is_over).then(|| self.shared.add_instance(&mut clock, counters))
    }

    /// Reserves a temporary instance regardless of the limit.
    pub fn reserve_beyond_limit(&self, counters: &Arc<ModuleCounters>) -> Reservation {
        let mut clock = self.shared.clock.lock();
        self.shared.add_instance(&mut clock, counters)
    }

    /// Adds an object that has become hot, so that it can be cooled again.
    pub fn add(&self, object: Weak<dyn Coolable>) {
        let mut clock = self.shared.clock.lock();
        clock.objects.push_back(object);
        if self.shared.is_over(&clock, 1) {
            self.shared.limit_exceeded.notify_one();
        }
    }
}

impl Drop for HotObjects {
    fn drop(&mut self) {
        self.shared.clock.lock().closed = true;
        self.shared.limit_exceeded.notify_one();
    }
}

/// The share of the limits that one instance takes until this value is dropped.
pub(crate) struct Reservation {
    shared: Arc<HotShared>,
    counters: Arc<ModuleCounters>,
    bytes: usize,
}

impl Reservation {
    /// Records the instance's present size.
    pub fn resize(&mut self, bytes: usize) {
        if bytes == self.bytes {
            return;
        }
        let mut clock = self.shared.clock.lock();
        clock.bytes = clock.bytes - self.bytes + bytes;
        self.bytes = bytes;
        if self.shared.is_over(&clock, 1) {
            self.shared.limit_exceeded.notify_one();
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut clock = self.shared.clock.lock();
        clock.instances -= 1;
        clock.bytes -= self.bytes;
        self.counters.hot.fetch_sub(1, Ordering::Relaxed);
        self.shared.instance_dropped.notify_all();
    }
}

/// The cooling thread.
fn cool_objects(shared: &HotShared) {
    // How many objects in a row were skipped.
    let mut skipped = 0;
    let mut clock = shared.clock.lock();
    while !clock.closed {
        if !shared.is_over(&clock, 1) || clock.objects.is_empty() {
            skipped = 0;
            shared.limit_exceeded.wait(&mut clock);
            continue;
        }
        // After two rounds each object has used its second chance: all of them are in use.
        if skipped > 2 * clock.objects.len() {
            skipped = 0;
            shared.limit_exceeded.wait_for(&mut clock, COOLING_PAUSE);
            continue;
        }
        let next = clock.objects.pop_front();
        let Some(object) = next.and_then(|object| object.upgrade()) else {
            continue;
        };
        let outcome = if object.take_used() {
            CoolOutcome::Busy
        } else {
            drop(clock);
            let outcome = object.cool();
            clock = shared.clock.lock();
            outcome
        };
        match outcome {
            CoolOutcome::Busy => {
                skipped += 1;
                clock.objects.push_back(Arc::downgrade(&object));
            }
            CoolOutcome::Cold | CoolOutcome::Unsavable => skipped = 0,
        }
        // Dropping the last reference drops the object's reservation, which takes the lock.
        drop(clock);
        drop(object);
        clock = shared.clock.lock();
    }
}
