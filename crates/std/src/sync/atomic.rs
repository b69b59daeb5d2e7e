//! Atomics, as [`std::sync::atomic`]: local until they travel. A shared one is sequentially consistent, whatever
//! [`Ordering`] is asked for.

pub use ::std::sync::atomic::{AtomicPtr, Ordering, compiler_fence, fence};

use ::std::fmt;

use crucial_object::{Shared, sync as shared};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::switch::Switch;
use crate::local::{Arc, atomic as local};
use crate::remote::{Remote, must};
use crate::statics::{self, Place, Static};

use Ordering::SeqCst;

/// What all atomics have.
macro_rules! atomic {
    ($name:ident, $value:ty) => {
        #[doc = concat!("An atomic `", stringify!($value), "`, as [`std::sync::atomic::", stringify!($name), "`].")]
        ///
        /// # Panics
        ///
        /// An operation on a shared one panics with the error's text if its call fails.
        pub struct $name {
            value: local::$name,
            switch: Switch<shared::$name>,
        }

        impl $name {
            /// An atomic with this value.
            pub const fn new(value: $value) -> $name {
                $name {
                    value: local::$name::new(value),
                    switch: Switch::new(),
                }
            }

            /// Runs an operation here, or at the object.
            #[track_caller]
            fn on<R>(
                &self,
                here: impl FnOnce(&local::$name) -> R,
                there: impl FnOnce(&Shared<shared::$name>) -> crucial_object::Result<R>,
            ) -> R {
                if self.switch.remote().is_none()
                    && let Place::Shared(key) = statics::look(self, &self.switch.seen)
                {
                    self.share(&key);
                }
                match self.switch.locally(|| here(&self.value)) {
                    Ok(result) => result,
                    Err(remote) => must(there(remote.object())),
                }
            }

            fn shared(&self) -> &Arc<Remote<shared::$name>> {
                let value = || shared::$name::new(self.value.load(SeqCst));
                self.switch.share(|| match statics::key(self) {
                    Some(key) => Remote::of_static(&key, value()),
                    None => Remote::make(value()),
                })
            }

            /// Brings the value home, which no other thread can see now.
            fn come_home(&mut self) {
                if let Some(remote) = self.switch.take() {
                    *self.value.get_mut() = must(remote.object().load());
                }
            }

            /// The value.
            #[track_caller]
            pub fn load(&self, order: Ordering) -> $value {
                self.on(|here| here.load(order), |there| there.load())
            }

            /// Sets the value.
            #[track_caller]
            pub fn store(&self, value: $value, order: Ordering) {
                self.on(|here| here.store(value, order), |there| there.store(value));
            }

            /// Sets the value, and returns the previous one.
            #[track_caller]
            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                self.on(|here| here.swap(value, order), |there| there.swap(value))
            }

            /// Sets the value to `new` if it is `current`. Returns the previous value, as `Ok` if it was set.
            #[track_caller]
            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.on(
                    |here| here.compare_exchange(current, new, success, failure),
                    |there| there.compare_exchange(current, new),
                )
            }

            /// As [`compare_exchange`](Self::compare_exchange); may fail without a cause while it is local.
            #[track_caller]
            pub fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.on(
                    |here| here.compare_exchange_weak(current, new, success, failure),
                    |there| there.compare_exchange(current, new),
                )
            }

            /// Applies `f` until no other thread interferes. Returns the previous value, as `Err` if `f` returned `None`.
            #[track_caller]
            pub fn fetch_update(
                &self,
                set_order: Ordering,
                fetch_order: Ordering,
                mut f: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                let mut current = self.load(fetch_order);
                while let Some(new) = f(current) {
                    match self.compare_exchange_weak(current, new, set_order, fetch_order) {
                        Ok(previous) => return Ok(previous),
                        Err(changed) => current = changed,
                    }
                }
                Err(current)
            }

            /// The value, which no other thread can see now. A shared one becomes local again.
            #[track_caller]
            pub fn get_mut(&mut self) -> &mut $value {
                self.come_home();
                self.value.get_mut()
            }

            /// The value.
            #[track_caller]
            pub fn into_inner(mut self) -> $value {
                self.come_home();
                self.value.into_inner()
            }

            atomic!(@fetch $value: fetch_and, fetch_or, fetch_xor);

            /// Bitwise not-and; returns the previous value.
            #[track_caller]
            pub fn fetch_nand(&self, value: $value, order: Ordering) -> $value {
                match self.fetch_update(order, Ordering::Relaxed, |old| Some(!(old & value))) {
                    Ok(previous) | Err(previous) => previous,
                }
            }
        }

        impl Static for $name {
            fn share(&self, key: &str) {
                let make = || Remote::of_static(key, shared::$name::new(self.value.load(SeqCst)));
                self.switch.share(make);
            }
        }

        impl Default for $name {
            fn default() -> $name {
                $name::new(<$value>::default())
            }
        }

        impl From<$value> for $name {
            fn from(value: $value) -> $name {
                $name::new(value)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.load(Ordering::Relaxed).fmt(f)
            }
        }

        /// Shares it, and encodes the handle.
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.shared().serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                Ok($name {
                    value: Default::default(),
                    switch: Switch::to(Remote::deserialize(deserializer)?),
                })
            }
        }
    };
    (@fetch $value:ty: $($method:ident),*) => {
        $(
            #[doc = concat!("As std's `", stringify!($method), "`; returns the previous value.")]
            #[track_caller]
            pub fn $method(&self, value: $value, order: Ordering) -> $value {
                self.on(|here| here.$method(value, order), |there| there.$method(value))
            }
        )*
    };
}

macro_rules! integer {
    ($name:ident, $value:ty) => {
        atomic!($name, $value);

        impl $name {
            atomic!(@fetch $value: fetch_add, fetch_sub, fetch_max, fetch_min);
        }
    };
}

atomic!(AtomicBool, bool);
integer!(AtomicI8, i8);
integer!(AtomicI16, i16);
integer!(AtomicI32, i32);
integer!(AtomicI64, i64);
integer!(AtomicIsize, isize);
integer!(AtomicU8, u8);
integer!(AtomicU16, u16);
integer!(AtomicU32, u32);
integer!(AtomicU64, u64);
integer!(AtomicUsize, usize);

impl AtomicBool {
    /// Negates; returns the previous value.
    #[track_caller]
    pub fn fetch_not(&self, order: Ordering) -> bool {
        self.on(|here| here.fetch_not(order), |there| there.fetch_not())
    }
}
