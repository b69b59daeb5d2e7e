//! Threads that end with a scope, and may borrow from around it.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard};

use crucial_object::{Result, held};
use crucial_runtime::{IsTask, Write, thread as native};

use super::ended::Ended;
use super::join::ScopedJoinHandle;
use super::parked::Thread;

/// Starts threads that [`scope`] waits for, as [`std::thread::Scope`].
pub struct Scope<'scope, 'env: 'scope> {
    // Emptied by `scope`. Without a destructor, the threads may borrow the scope itself.
    threads: ManuallyDrop<Mutex<Vec<Started<'scope>>>>,
    _scope: PhantomData<&'scope mut &'scope ()>,
    _env: PhantomData<&'env mut &'env ()>,
}

struct Started<'scope> {
    ended: Arc<Ended>,
    /// Writes what was lent by `&mut`.
    write: Option<Write<'scope>>,
}

/// Runs `f`, waits for all threads that were started in the scope, and writes what they were lent by `&mut`, as
/// [`std::thread::scope`].
///
/// # Panics
///
/// If a thread failed that was not joined, or `f` panics.
#[track_caller]
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let scope = Scope {
        threads: ManuallyDrop::default(),
        _scope: PhantomData,
        _env: PhantomData,
    };
    let value = catch_unwind(AssertUnwindSafe(|| f(&scope)));
    let threads = std::mem::take(&mut *scope.threads());
    let failed = threads.into_iter().fold(false, |failed, thread| {
        let ended = match thread.ended.was_joined() {
            true => Ok(()),
            false => thread.ended.join().map(drop),
        };
        let written = match (thread.ended.written(), thread.write) {
            (Some(written), Some(write)) => write(&written),
            _ => Ok(()),
        };
        failed | ended.is_err() | written.is_err()
    });
    match value {
        Err(panic) => resume_unwind(panic),
        Ok(_) if failed => panic!("a scoped thread panicked"),
        Ok(value) => value,
    }
}

impl<'scope, 'env> Scope<'scope, 'env> {
    fn threads(&self) -> MutexGuard<'_, Vec<Started<'scope>>> {
        self.threads.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Runs a `#[cloud]` function as a cloud thread of this scope: `scope.spawn(|| work(&input, part))`.
    ///
    /// The closure is called at once and only builds the task. What waits in it panics.
    ///
    /// # Panics
    ///
    /// If nothing can be run, for instance because an argument cannot be encoded.
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T::Output>
    where
        F: FnOnce() -> T + 'scope,
        T: IsTask + 'scope,
    {
        match self.start(native::Builder::new(), f) {
            Ok(handle) => handle,
            Err(error) => panic!("failed to spawn thread: {error}"),
        }
    }

    pub(super) fn start<F, T>(
        &'scope self,
        builder: native::Builder,
        f: F,
    ) -> Result<ScopedJoinHandle<'scope, T::Output>>
    where
        F: FnOnce() -> T + 'scope,
        T: IsTask + 'scope,
    {
        let (task, write) = held::build_task(f).into_parts();
        let handle = builder.spawn(task)?;
        let thread = Thread::of(&handle);
        let ended = Arc::new(Ended::of(handle));
        let started = Started {
            ended: ended.clone(),
            write,
        };
        self.threads().push(started);
        Ok(ScopedJoinHandle::new(ended, thread))
    }
}

impl std::fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}
