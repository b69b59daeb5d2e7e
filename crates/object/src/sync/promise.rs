//! A value that comes later.

use std::task::Poll;

use serde::{Deserialize, Serialize};

use crate::opaque::sealed;
use crate::{Element, Wake, shared};

/// A value that one thread sets, once, and any number of threads wait for.
///
/// Nobody is obliged to set it: who waits for a thread that may die waits with a
/// [time-out](crate::Shared::with_timeout), or joins the thread.
///
/// ```
/// use crucial::sync::Promise;
/// use crucial::{Result, Shared, cloud, thread};
///
/// #[cloud]
/// fn answer(promise: Shared<Promise<u64>>) -> Result<bool> {
///     promise.set(42)
/// }
///
/// let promise = Shared::new(Promise::new())?;
/// assert_eq!(promise.get()?, None); // at once
/// let worker = thread::spawn(answer(promise.clone()));
/// assert_eq!(promise.wait()?, 42); // blocks until it is set
/// # let _joined = worker.join();
/// # Ok::<(), crucial::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "T: Element")]
#[doc(alias("Future", "SharedFuture", "CompletableFuture"))]
pub struct Promise<T> {
    #[serde(with = "sealed::optional")]
    value: Option<T>,
}

impl<T> Promise<T> {
    /// A promise without a value.
    pub const fn new() -> Promise<T> {
        Promise { value: None }
    }
}

impl<T> Default for Promise<T> {
    fn default() -> Self {
        Promise::new()
    }
}

#[shared(name = "crucial::Promise", crate = crate)]
impl<T: Clone> Promise<T> {
    /// Sets the value, if it is not set yet; whether it did.
    #[doc(alias = "complete")]
    pub fn set(&mut self, value: T) -> bool {
        let first = self.value.is_none();
        self.value.get_or_insert(value);
        first
    }

    /// The value; blocks until there is one.
    #[doc(alias = "join")]
    pub fn wait(&self) -> Poll<T> {
        self.value.clone().map_or(Poll::Pending, Poll::Ready)
    }

    /// The value, if there is one.
    #[doc(alias("getNow", "try_get"))]
    pub fn get(&self) -> Option<T> {
        self.value.clone()
    }

    /// Whether there is a value.
    #[doc(alias = "isDone")]
    pub fn is_set(&self) -> bool {
        self.value.is_some()
    }

    /// All who wait get it.
    #[wake]
    fn wake(&self) -> Wake {
        if self.is_set() { Wake::All } else { Wake::None }
    }
}
