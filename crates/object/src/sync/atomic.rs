//! Atomics. Every operation is atomic and sequentially consistent, so none takes an `Ordering`.

use serde::{Deserialize, Serialize};

use super::update;
use crate::{Error, Result, Shared, shared};

/// How often one call multiplies.
const MUL_TIMES_MAX: u64 = 10_000_000;

macro_rules! integer {
    ($name:ident, $int:ty, $type_name:literal) => {
        #[doc = concat!("A shared `", stringify!($int), "`, as [`std::sync::atomic::", stringify!($name), "`].")]
        ///
        /// Arithmetic wraps around on overflow, as in `std`.
        ///
        /// ```
        /// use crucial::Shared;
        #[doc = concat!("use crucial::sync::atomic::", stringify!($name), ";")]
        ///
        #[doc = concat!("let hits = Shared::new(", stringify!($name), "::new(40))?;")]
        /// assert_eq!((hits.fetch_add(2)?, hits.load()?), (40, 42));
        /// assert_eq!(hits.fetch_max(50)?, 42);
        /// assert_eq!(hits.compare_exchange(42, 1)?, Err(50));
        /// assert_eq!(hits.fetch_update(|hits| Some(hits / 2))?, Ok(50));
        /// hits.store(0)?;
        /// # Ok::<(), crucial::Error>(())
        /// ```
        #[derive(Clone, Debug, Default, Serialize, Deserialize)]
        #[doc(alias("AtomicLong", "AtomicInteger"))]
        pub struct $name {
            value: $int,
        }

        impl $name {
            /// An atomic with this value.
            pub const fn new(value: $int) -> Self {
                Self { value }
            }

            fn replace(&mut self, value: $int) -> $int {
                std::mem::replace(&mut self.value, value)
            }
        }

        #[shared(name = $type_name, crate = crate)]
        #[allow(deprecated, reason = "the library is linked into every server, and never uploaded: usize has 64 bits")]
        impl $name {
            /// The value.
            #[doc(alias = "get")]
            pub fn load(&self) -> $int {
                self.value
            }

            /// Sets the value.
            #[doc(alias = "set")]
            pub fn store(&mut self, value: $int) {
                self.value = value;
            }

            /// Sets the value and returns the previous one.
            #[doc(alias = "getAndSet")]
            pub fn swap(&mut self, value: $int) -> $int {
                self.replace(value)
            }

            /// Adds, and returns the previous value.
            #[doc(alias = "getAndAdd")]
            pub fn fetch_add(&mut self, value: $int) -> $int {
                self.replace(self.value.wrapping_add(value))
            }

            /// Subtracts, and returns the previous value.
            pub fn fetch_sub(&mut self, value: $int) -> $int {
                self.replace(self.value.wrapping_sub(value))
            }

            /// Multiplies, and returns the previous value (the paper's Fig. 2a, *simple*).
            pub fn fetch_mul(&mut self, value: $int) -> $int {
                self.replace(self.value.wrapping_mul(value))
            }

            /// Multiplies by `factor`, `times` times in a row, and returns the previous value: a method that
            /// takes a while (the paper's Fig. 2a, *complex*).
            ///
            /// # Errors
            ///
            /// [`Error::LimitExceeded`](crate::Error::LimitExceeded) for more than 10 million times.
            #[fallible]
            pub fn fetch_mul_times(&mut self, factor: $int, times: u64) -> Result<$int> {
                if times > MUL_TIMES_MAX {
                    return Err(Error::LimitExceeded {
                        limit: "MUL_TIMES_MAX".to_owned(),
                        max: MUL_TIMES_MAX,
                        detail: "multiply in several calls".to_owned(),
                    });
                }
                let product = (0..times).fold(self.value, |value, _| value.wrapping_mul(factor));
                Ok(self.replace(product))
            }

            /// Bitwise and; returns the previous value.
            pub fn fetch_and(&mut self, value: $int) -> $int {
                self.replace(self.value & value)
            }

            /// Bitwise or; returns the previous value.
            pub fn fetch_or(&mut self, value: $int) -> $int {
                self.replace(self.value | value)
            }

            /// Bitwise exclusive or; returns the previous value.
            pub fn fetch_xor(&mut self, value: $int) -> $int {
                self.replace(self.value ^ value)
            }

            /// Sets the value to the larger of the two; returns the previous one.
            pub fn fetch_max(&mut self, value: $int) -> $int {
                self.replace(self.value.max(value))
            }

            /// Sets the value to the smaller of the two; returns the previous one.
            pub fn fetch_min(&mut self, value: $int) -> $int {
                self.replace(self.value.min(value))
            }

            /// Sets the value to `new` if it is `current`. Returns the previous value, as `Ok` if it
            /// was set.
            #[doc(alias = "compareAndSet")]
            pub fn compare_exchange(&mut self, current: $int, new: $int) -> Result<$int, $int> {
                if self.value == current {
                    Ok(self.replace(new))
                } else {
                    Err(self.value)
                }
            }
        }

        impl Shared<$name> {
            /// Applies `f` to the value until it changes nothing behind `f`'s back: `f` runs here,
            /// in a loop of `compare_exchange`. Returns the previous value
            /// as `Ok`, or as `Err` when `f` returned `None`.
            ///
            /// # Errors
            ///
            /// [`Error::LimitExceeded`](crate::Error::LimitExceeded) after 10 000 tries. An operation
            /// that many threads contend for belongs in a `#[shared]` type, where it runs on the
            /// server.
            #[doc(alias("getAndUpdate", "updateAndGet"))]
            pub fn fetch_update(
                &self,
                mut f: impl FnMut($int) -> Option<$int>,
            ) -> Result<Result<$int, $int>> {
                let mut current = self.load()?;
                update::retry(|| {
                    let Some(new) = f(current) else {
                        return Ok(Some(Err(current)));
                    };
                    Ok(match self.compare_exchange(current, new)? {
                        Ok(previous) => Some(Ok(previous)),
                        Err(changed) => {
                            current = changed;
                            None
                        }
                    })
                })
            }
        }
    };
}

integer!(AtomicI8, i8, "crucial::AtomicI8");
integer!(AtomicI16, i16, "crucial::AtomicI16");
integer!(AtomicI32, i32, "crucial::AtomicI32");
integer!(AtomicI64, i64, "crucial::AtomicI64");
integer!(AtomicIsize, isize, "crucial::AtomicIsize");
integer!(AtomicU8, u8, "crucial::AtomicU8");
integer!(AtomicU16, u16, "crucial::AtomicU16");
integer!(AtomicU32, u32, "crucial::AtomicU32");
integer!(AtomicU64, u64, "crucial::AtomicU64");
integer!(AtomicUsize, usize, "crucial::AtomicUsize");

/// A shared `bool`, as [`std::sync::atomic::AtomicBool`].
///
/// ```
/// use crucial::Shared;
/// use crucial::sync::atomic::AtomicBool;
///
/// let stop = Shared::new(AtomicBool::new(false))?;
/// assert!(!stop.swap(true)? && stop.load()?);
/// assert_eq!(stop.compare_exchange(false, true)?, Err(true));
/// # Ok::<(), crucial::Error>(())
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[doc(alias = "AtomicBoolean")]
pub struct AtomicBool {
    value: bool,
}

impl AtomicBool {
    /// An atomic with this value.
    pub const fn new(value: bool) -> Self {
        Self { value }
    }

    fn replace(&mut self, value: bool) -> bool {
        std::mem::replace(&mut self.value, value)
    }
}

#[shared(name = "crucial::AtomicBool", crate = crate)]
impl AtomicBool {
    /// The value.
    #[doc(alias = "get")]
    pub fn load(&self) -> bool {
        self.value
    }

    /// Sets the value.
    #[doc(alias = "set")]
    pub fn store(&mut self, value: bool) {
        self.value = value;
    }

    /// Sets the value and returns the previous one.
    pub fn swap(&mut self, value: bool) -> bool {
        self.replace(value)
    }

    /// Logical and; returns the previous value.
    pub fn fetch_and(&mut self, value: bool) -> bool {
        self.replace(self.value & value)
    }

    /// Logical or; returns the previous value.
    pub fn fetch_or(&mut self, value: bool) -> bool {
        self.replace(self.value | value)
    }

    /// Logical exclusive or; returns the previous value.
    pub fn fetch_xor(&mut self, value: bool) -> bool {
        self.replace(self.value ^ value)
    }

    /// Negates; returns the previous value.
    pub fn fetch_not(&mut self) -> bool {
        self.replace(!self.value)
    }

    /// Sets the value to `new` if it is `current`. Returns the previous value, as `Ok` if it was set.
    #[doc(alias = "compareAndSet")]
    pub fn compare_exchange(&mut self, current: bool, new: bool) -> Result<bool, bool> {
        if self.value == current {
            Ok(self.replace(new))
        } else {
            Err(self.value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_like_std() {
        let mut a = AtomicI64::new(i64::MAX);
        assert_eq!(a.fetch_add(1), i64::MAX);
        assert_eq!(a.load(), i64::MIN);
        assert_eq!(a.compare_exchange(0, 1), Err(i64::MIN));
        assert_eq!(a.compare_exchange(i64::MIN, 1), Ok(i64::MIN));
        assert_eq!(a.fetch_max(9), 1);
        assert_eq!(a.fetch_min(4), 9);
        assert_eq!(a.fetch_mul(-2), 4);
        assert_eq!(a.load(), -8);
    }
}
