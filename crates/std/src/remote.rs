//! The shared object that a primitive has become.

use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, Weak};

use crucial_object::caller::{self, Caller};
use crucial_object::held::{self, Hold, Holds};
use crucial_object::{ObjectId, Result, Shared, SharedType};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The result of a call where std has no error.
///
/// # Panics
///
/// With the error's text: in a cloud thread it is the error of `join`.
#[track_caller]
pub(crate) fn must<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

/// A shared object of a primitive. The process that has made the object owns it: the object goes with the last reference.
pub(crate) struct Remote<O: SharedType> {
    object: Shared<O>,
    /// This process has made the object.
    is_owner: bool,
    /// The caller for the last calls, which may be made when no other is there any more; `None` inside of methods.
    caller: Option<Arc<dyn Caller>>,
    /// Others have the object, and their end is not known.
    pinned: AtomicBool,
    /// What is stored in it since its beginning.
    stored: Holds,
}

/// The objects that this process owns, so that a handle that comes home is one more reference.
static OWNED: LazyLock<Mutex<HashMap<ObjectId, Weak<dyn Any + Send + Sync>>>> =
    LazyLock::new(Mutex::default);

fn owned() -> MutexGuard<'static, HashMap<ObjectId, Weak<dyn Any + Send + Sync>>> {
    OWNED.lock().unwrap_or_else(|e| e.into_inner())
}

impl<O: SharedType + Serialize> Remote<O>
where
    O: 'static,
    O::Proxy: Send + Sync + 'static,
{
    /// Makes an object, which goes with the last reference.
    #[track_caller]
    pub fn make(value: O) -> Arc<Remote<O>> {
        Remote::with_stored(value, Holds::default())
    }

    /// As [`make`](Remote::make); what is stored in the object goes with it.
    #[track_caller]
    pub fn with_stored(value: O, stored: Holds) -> Arc<Remote<O>> {
        let remote = Arc::new(Remote {
            object: must(Shared::new(value)),
            is_owner: true,
            caller: caller::current().ok(),
            pinned: AtomicBool::new(false),
            stored,
        });
        let weak = Arc::downgrade(&remote) as Weak<dyn Any + Send + Sync>;
        owned().insert(remote.object.id(), weak);
        remote
    }

    /// The object of a static, which lives as long as the run.
    #[track_caller]
    pub fn of_static(key: &str, value: O) -> Arc<Remote<O>> {
        Arc::new(Remote::others(must(Shared::named(key, value))))
    }
}

impl<O: SharedType> Remote<O> {
    fn others(object: Shared<O>) -> Remote<O> {
        Remote {
            object,
            is_owner: false,
            caller: caller::current().ok(),
            pinned: AtomicBool::new(false),
            stored: Holds::default(),
        }
    }

    pub fn object(&self) -> &Shared<O> {
        &self.object
    }

    /// Makes a last call, at whose result nobody looks: without a server, or with the run, all has gone already.
    pub fn at_end<R>(&self, call: impl FnOnce(&Shared<O>) -> Result<R>) {
        if let Some(caller) = &self.caller {
            let _ = caller::with(caller.clone(), || call(&self.object));
        }
    }
}

impl<O: SharedType + 'static> Remote<O>
where
    O::Proxy: Send + Sync + 'static,
{
    /// Encodes the handle, and leaves a hold.
    pub fn serialize<S: Serializer>(self: &Arc<Self>, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.is_owner {
            held::record_passed_on(self.object.id());
        }
        held::hold(self.clone());
        self.object.serialize(serializer)
    }

    /// Decodes a handle.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Self>, D::Error> {
        let object = Shared::<O>::deserialize(deserializer)?;
        let known = owned().get(&object.id()).and_then(Weak::upgrade);
        let known = known.and_then(|known| known.downcast::<Remote<O>>().ok());
        Ok(known.unwrap_or_else(|| Arc::new(Remote::others(object))))
    }
}

impl<O: SharedType> Hold for Remote<O>
where
    O::Proxy: Send + Sync,
{
    fn pass_on(&self) {
        self.pin();
    }

    fn pin(&self) {
        self.pinned.store(true, Ordering::Relaxed);
        self.stored.pass_on();
    }

    fn object(&self) -> Option<ObjectId> {
        Some(self.object.id())
    }
}

impl<O: SharedType> Drop for Remote<O> {
    fn drop(&mut self) {
        if !self.is_owner {
            return;
        }
        owned().remove(&self.object.id());
        if !*self.pinned.get_mut() {
            self.at_end(Shared::delete);
        }
    }
}
