//! A counter.

use serde::{Deserialize, Serialize};

use crate::{Error, Result, shared};

/// A number that goes up and down, and answers with its new value (where the
/// [atomics](super::AtomicI64) answer with the previous one).
///
/// A step beyond the numbers of 64 bits is an error, and changes nothing. (The atomics wrap around, as those of `std`.)
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
    ///
    /// # Errors
    ///
    /// As [`add`](Counter::add).
    #[doc(alias = "incrementAndGet")]
    #[fallible]
    pub fn increment(&mut self) -> Result<i64> {
        self.add(1)
    }

    /// Subtracts one, and returns the new value.
    ///
    /// # Errors
    ///
    /// As [`add`](Counter::add).
    #[doc(alias = "decrementAndGet")]
    #[fallible]
    pub fn decrement(&mut self) -> Result<i64> {
        self.add(-1)
    }

    /// Adds, and returns the new value.
    ///
    /// # Errors
    ///
    /// [`Error::BadArguments`](crate::Error::BadArguments) if the sum is beyond the numbers of 64 bits.
    #[doc(alias = "addAndGet")]
    #[fallible]
    pub fn add(&mut self, value: i64) -> Result<i64> {
        let sum = self.value.checked_add(value);
        self.value = sum.ok_or_else(|| Error::BadArguments {
            what: "a counter".to_owned(),
            detail: format!(
                "{} and {value} are together beyond the numbers of 64 bits",
                self.value
            ),
        })?;
        Ok(self.value)
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
