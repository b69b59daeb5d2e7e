//! A counter.

use serde::{Deserialize, Serialize};

use crate::shared;

/// A number that goes up and down, and answers with its new value (where the
/// [atomics](super::AtomicI64) answer with the previous one).
///
/// It wraps around on overflow.
///
/// ```
/// use crucial::Shared;
/// use crucial::sync::Counter;
///
/// let visits = Shared::new(Counter::new(0))?;
/// assert_eq!((visits.increment()?, visits.add(9)?, visits.decrement()?), (1, 10, 9));
/// assert_eq!((visits.get()?, visits.reset()?, visits.get()?), (9, 9, 0));
/// # Ok::<(), crucial::Error>(())
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[doc(alias("SharedCounter", "LongAdder"))]
pub struct Counter {
    value: i64,
}

impl Counter {
    /// A counter with this value.
    pub const fn new(value: i64) -> Counter {
        Counter { value }
    }
}

#[shared(name = "crucial::Counter", crate = crate)]
impl Counter {
    /// Adds one, and returns the new value.
    #[doc(alias = "incrementAndGet")]
    pub fn increment(&mut self) -> i64 {
        self.add(1)
    }

    /// Subtracts one, and returns the new value.
    #[doc(alias = "decrementAndGet")]
    pub fn decrement(&mut self) -> i64 {
        self.add(-1)
    }

    /// Adds, and returns the new value.
    #[doc(alias = "addAndGet")]
    pub fn add(&mut self, value: i64) -> i64 {
        self.value = self.value.wrapping_add(value);
        self.value
    }

    /// Sets the value to zero, and returns the one that it had.
    #[doc(alias = "sumThenReset")]
    pub fn reset(&mut self) -> i64 {
        std::mem::take(&mut self.value)
    }

    /// The value.
    #[doc(alias("tally", "value", "load"))]
    pub fn get(&self) -> i64 {
        self.value
    }
}
