//! What happens once: `OnceLock`, `Once`, `LazyLock`.

use std::fmt;
use std::ops::Deref;

use crucial_object::held;
use crucial_object::sync as shared;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::ByteBuf;

use crate::codec::Codec;
use crate::cycle;
use crate::lent::Lent;
use crate::local::{Arc, Mutex, MutexGuard, OnceLock as Local};
use crate::remote::{Remote, must};
use crate::statics;

type Object = shared::OnceLock<ByteBuf>;

/// A value that is set once, as [`std::sync::OnceLock`].
///
/// # Panics
///
/// Operations on a shared one panic with the error's text if the call fails.
pub struct OnceLock<T> {
    /// Held by who computes the value here, and by the switch.
    hub: Mutex<()>,
    /// The value, as far as this process knows it.
    value: Local<T>,
    remote: Local<Arc<Remote<Object>>>,
    codec: Local<Codec<T>>,
}

impl<T> OnceLock<T> {
    /// Without a value.
    pub const fn new() -> OnceLock<T> {
        OnceLock {
            hub: Mutex::new(()),
            value: Local::new(),
            remote: Local::new(),
            codec: Local::new(),
        }
    }

    #[track_caller]
    fn hub(&self) -> MutexGuard<'_, ()> {
        statics::refuse_in_worker(self, "OnceLock");
        self.hub.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn codec(&self) -> &Codec<T> {
        let codec = self.codec.get();
        codec.expect("whoever shares the cell sets it before")
    }

    #[track_caller]
    fn known(&self, bytes: &[u8]) -> &T {
        let decode = || Lent::decode(|| self.codec().decode(bytes)).0;
        self.value.get_or_init(decode)
    }

    /// The value, if it is set.
    #[track_caller]
    pub fn get(&self) -> Option<&T> {
        if let Some(value) = self.value.get() {
            return Some(value);
        }
        statics::refuse_in_worker(self, "OnceLock");
        let bytes = must(self.remote.get()?.object().get())?;
        Some(self.known(&bytes))
    }

    /// The value, if it is set.
    #[track_caller]
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.come_home();
        self.value.get_mut()
    }

    /// Sets the value.
    ///
    /// # Errors
    ///
    /// `value`, if one is set already.
    #[track_caller]
    pub fn set(&self, value: T) -> Result<(), T> {
        let hub = self.hub();
        match self.remote.get() {
            None => self.value.set(value),
            Some(remote) => {
                drop(hub);
                let bytes = self.codec().encode(&value);
                match must(remote.object().set(bytes)) {
                    true => {
                        let _ = self.value.set(value);
                        Ok(())
                    }
                    false => Err(value),
                }
            }
        }
    }

    /// The value. If it is not set, `compute` makes it; others who need it wait meanwhile.
    #[track_caller]
    pub fn get_or_init<F: FnOnce() -> T>(&self, compute: F) -> &T {
        if let Some(value) = self.value.get() {
            return value;
        }
        if let Some(refusal) = held::refusal_to_wait("a once cell") {
            panic!("{refusal}");
        }
        let hub = self.hub();
        match self.remote.get() {
            None => self.value.get_or_init(compute),
            Some(remote) => {
                drop(hub);
                let compute = || self.codec().encode(&compute());
                let bytes = must(remote.object().get_or_init(compute));
                self.known(&bytes)
            }
        }
    }

    /// The value, if it is set.
    #[track_caller]
    pub fn into_inner(mut self) -> Option<T> {
        self.take()
    }

    /// Takes the value, if it is set.
    #[track_caller]
    pub fn take(&mut self) -> Option<T> {
        self.come_home();
        self.value.take()
    }

    fn come_home(&mut self) {
        self.get();
        self.remote.take();
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> OnceLock<T> {
        OnceLock::new()
    }
}

impl<T> From<T> for OnceLock<T> {
    fn from(value: T) -> OnceLock<T> {
        let cell = OnceLock::new();
        let _ = cell.value.set(value);
        cell
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value.get() {
            Some(value) => f.debug_tuple("OnceLock").field(value).finish(),
            None => f.write_str("OnceLock(<uninit>)"),
        }
    }
}

impl<T: Clone> Clone for OnceLock<T> {
    fn clone(&self) -> OnceLock<T> {
        self.get()
            .cloned()
            .map_or_else(OnceLock::new, OnceLock::from)
    }
}

impl<T: PartialEq> PartialEq for OnceLock<T> {
    fn eq(&self, other: &OnceLock<T>) -> bool {
        self.get() == other.get()
    }
}

impl<T: Eq> Eq for OnceLock<T> {}

/// Shares it, and encodes the handle.
impl<T: Serialize + DeserializeOwned> Serialize for OnceLock<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let share = || {
            let _hub = self.hub();
            self.remote.get_or_init(|| {
                let codec = self.codec.get_or_init(Codec::new);
                let encode = |value| codec.encode_with_holds(value);
                let (bytes, stored) = self.value.get().map(encode).unzip();
                let remote = Remote::with_stored(Object::new(), stored.unwrap_or_default());
                if let Some(bytes) = bytes {
                    must(remote.object().set(bytes));
                }
                remote
            })
        };
        let remote = match self.remote.get() {
            Some(remote) => remote,
            None => cycle::sharing(self, share),
        };
        remote.serialize(serializer)
    }
}

impl<'de, T: Serialize + DeserializeOwned> Deserialize<'de> for OnceLock<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OnceLock<T>, D::Error> {
        Ok(OnceLock {
            hub: Mutex::new(()),
            value: Local::new(),
            remote: Local::from(Remote::deserialize(deserializer)?),
            codec: Local::from(Codec::new()),
        })
    }
}

/// Something that is done once, as [`std::sync::Once`], but without poison: if it panics, the next caller does it.
///
/// # Panics
///
/// Operations on a shared one panic with the error's text if the call fails.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Once(OnceLock<()>);

impl Once {
    /// Not done yet.
    pub const fn new() -> Once {
        Once(OnceLock::new())
    }

    /// Does it, unless it is done; blocks while another thread does it.
    #[track_caller]
    pub fn call_once<F: FnOnce()>(&self, f: F) {
        self.0.get_or_init(f);
    }

    /// Whether it is done.
    #[track_caller]
    pub fn is_completed(&self) -> bool {
        self.0.get().is_some()
    }
}

/// A value that is computed at its first use, as [`std::sync::LazyLock`]. It travels as the value, which is computed then.
/// In a static each process computes its own.
pub struct LazyLock<T, F = fn() -> T> {
    value: Local<T>,
    compute: Mutex<Option<F>>,
}

impl<T, F: FnOnce() -> T> LazyLock<T, F> {
    /// A value that `compute` makes.
    pub const fn new(compute: F) -> LazyLock<T, F> {
        LazyLock {
            value: Local::new(),
            compute: Mutex::new(Some(compute)),
        }
    }

    /// Computes the value, unless that was done.
    ///
    /// # Panics
    ///
    /// If an earlier computation has panicked.
    #[track_caller]
    pub fn force(this: &LazyLock<T, F>) -> &T {
        this.value.get_or_init(|| {
            let compute = this
                .compute
                .lock()
                .unwrap_or_else(|e| e.into_inner())
                .take();
            match compute {
                Some(compute) => compute(),
                None => panic!("LazyLock instance has previously been poisoned"),
            }
        })
    }
}

impl<T, F: FnOnce() -> T> Deref for LazyLock<T, F> {
    type Target = T;

    #[track_caller]
    fn deref(&self) -> &T {
        LazyLock::force(self)
    }
}

impl<T: Default> Default for LazyLock<T> {
    fn default() -> LazyLock<T> {
        LazyLock::new(T::default)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value.get() {
            Some(value) => f.debug_tuple("LazyLock").field(value).finish(),
            None => f.write_str("LazyLock(<uninit>)"),
        }
    }
}

impl<T: Serialize, F: FnOnce() -> T> Serialize for LazyLock<T, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        LazyLock::force(self).serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>, F> Deserialize<'de> for LazyLock<T, F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LazyLock<T, F>, D::Error> {
        Ok(LazyLock {
            value: Local::from(T::deserialize(deserializer)?),
            compute: Mutex::new(None),
        })
    }
}
