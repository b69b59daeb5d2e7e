//! What keeps the objects alive that travel in a task.
//!
//! A handle whose object goes with its last holder leaves a [`Hold`] where it is encoded. A task keeps the holds of its
//! arguments, and its thread keeps them until it has ended for good.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use crate::ObjectId;

/// Something that stays alive while it is held.
pub trait Hold: Send + Sync {
    /// Keeps it alive for as long as the run: it was encoded, but not for a thread, whose end would be known.
    fn pass_on(&self);
    /// Keeps the object alive for as long as the run: its thread has perhaps passed it on.
    fn pin(&self);
    /// The object that it keeps, if it keeps one.
    fn object(&self) -> Option<ObjectId>;
}

/// The holds of a task or of a thread. Dropping them gives them back.
#[derive(Clone, Default)]
pub struct Holds(Vec<Arc<dyn Hold>>);

impl Holds {
    /// Adds other holds.
    pub fn extend(&mut self, other: Holds) {
        self.0.extend(other.0);
    }

    /// Keeps those alive that were passed on.
    pub fn pin(&self, passed_on: &HashSet<ObjectId>) {
        let passed_on = |hold: &&Arc<dyn Hold>| {
            let object = hold.object();
            object.is_some_and(|object| passed_on.contains(&object))
        };
        self.0.iter().filter(passed_on).for_each(|hold| hold.pin());
    }

    /// Keeps all of them alive: what they keep is stored in an object.
    pub fn pass_on(&self) {
        self.0.iter().for_each(|hold| hold.pass_on());
    }

    /// Keeps all of them alive: their thread has died, and has perhaps passed them on.
    pub fn pin_all(&self) {
        self.0.iter().for_each(|hold| hold.pin());
    }
}

impl std::fmt::Debug for Holds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Holds({})", self.0.len())
    }
}

thread_local! {
    static COLLECTED: RefCell<Option<Holds>> = const { RefCell::new(None) };
}

/// Puts back what was collected before.
struct Restore(Option<Holds>);

impl Drop for Restore {
    fn drop(&mut self) {
        COLLECTED.set(self.0.take());
    }
}

/// What this process has passed on and does not own.
static PASSED_ON: Mutex<Option<HashSet<ObjectId>>> = Mutex::new(None);

fn passed_on() -> MutexGuard<'static, Option<HashSet<ObjectId>>> {
    PASSED_ON.lock().unwrap_or_else(|e| e.into_inner())
}

/// Runs `encode`, which encodes the arguments of a task, and collects the holds of what is in them.
pub fn collect<R>(encode: impl FnOnce() -> R) -> (R, Holds) {
    let _restore = Restore(COLLECTED.replace(Some(Holds::default())));
    let result = encode();
    let collected = COLLECTED.with_borrow_mut(Option::take);
    (result, collected.unwrap_or_default())
}

/// Runs `encode`, which encodes a value of an object. What is in it is passed on, also in the arguments of a task: the
/// object may live longer than the thread.
pub fn passing_on<R>(encode: impl FnOnce() -> R) -> R {
    let _restore = Restore(COLLECTED.take());
    encode()
}

/// Leaves the hold of something that is being encoded. Outside of a task it is passed on.
pub fn hold(hold: Arc<dyn Hold>) {
    let left = COLLECTED.with_borrow_mut(|collected| match collected {
        Some(holds) => {
            holds.0.push(hold);
            None
        }
        None => Some(hold),
    });
    if let Some(hold) = left {
        hold.pass_on();
    }
}

/// Records that this process has passed an object on that another process owns.
pub fn record_passed_on(object: ObjectId) {
    passed_on().get_or_insert_default().insert(object);
}

/// The objects of other processes that this process has passed on since it was last asked.
pub fn take_passed_on() -> HashSet<ObjectId> {
    passed_on().take().unwrap_or_default()
}

/// Whether statics are objects of the run: this process has spawned threads, or runs them.
static STATICS_ARE_SHARED: AtomicBool = AtomicBool::new(false);
static IS_WORKER: AtomicBool = AtomicBool::new(false);
static BEFORE: OnceLock<fn()> = OnceLock::new();

/// Whether statics are objects of the run.
pub fn are_statics_shared() -> bool {
    STATICS_ARE_SHARED.load(Ordering::Acquire)
}

/// Whether this process runs cloud threads, and nothing else.
pub fn is_worker() -> bool {
    IS_WORKER.load(Ordering::Relaxed)
}

/// Sets what is done when statics are shared.
pub fn before_statics_are_shared(share: fn()) {
    let _ = BEFORE.set(share);
}

/// Makes statics objects of the run, before a thread is spawned in another process. Whoever spawns meanwhile waits for that:
/// a worker would make the object of a static with the value that it has there.
pub fn share_statics() {
    static SHARING: Mutex<()> = Mutex::new(());
    let _sharing = SHARING.lock().unwrap_or_else(|e| e.into_inner());
    if !STATICS_ARE_SHARED.swap(true, Ordering::AcqRel)
        && let Some(share) = BEFORE.get()
    {
        share();
    }
}

/// Records that this process runs cloud threads, and nothing else.
pub fn become_worker() {
    IS_WORKER.store(true, Ordering::Relaxed);
    STATICS_ARE_SHARED.store(true, Ordering::Release);
}

thread_local! {
    static BUILDS_TASK: Cell<bool> = const { Cell::new(false) };
    static IS_LAST_ATTEMPT: Cell<bool> = const { Cell::new(true) };
}

/// Whether nobody goes on in the place of this thread if it panics or dies.
pub fn is_last_attempt() -> bool {
    IS_LAST_ATTEMPT.get()
}

/// Runs an attempt of a cloud thread.
pub fn attempt<R>(is_last: bool, run: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            IS_LAST_ATTEMPT.set(self.0);
        }
    }
    let _restore = Restore(IS_LAST_ATTEMPT.replace(is_last));
    run()
}

/// Runs a closure that builds a task, in which nothing may wait.
pub fn build_task<T>(build: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            BUILDS_TASK.set(self.0);
        }
    }
    let _restore = Restore(BUILDS_TASK.replace(true));
    build()
}

/// Why nothing may wait now, if that is so.
pub fn refusal_to_wait(what: &str) -> Option<crate::Error> {
    BUILDS_TASK.get().then(|| crate::Error::Config {
        detail: format!(
            "{what} was called in the closure of a spawn, which runs at once in the thread that spawns, and only builds \
             the task: call it in the #[cloud] function"
        ),
    })
}
