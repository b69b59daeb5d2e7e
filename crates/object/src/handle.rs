//! `Shared<T>`: a handle to a shared object.

use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::caller::{self, Lifetime, Mode, Open};
use crate::proxy::{Proxy, Target};
use crate::{ObjectId, Result, SharedType};

/// To threads on many machines what `Arc<T>` is to threads in one process: a small, cloneable,
/// *serializable* handle to an object that lives on a server.
///
/// It dereferences to the proxy of `T`, so that each method of `T`'s `#[shared] impl` can be called
/// on the handle. A call is one message to the server that holds the object, is executed there once,
/// and blocks until its result is back. Calls are linearizable.
///
/// Handles are equal if and only if they name the same object. Dropping a handle deletes nothing: an
/// *ephemeral* object goes when the run of the application that made it ends, a *persistent* one
/// (see [`ObjectBuilder::persistent`]) when it is [deleted](Shared::delete).
///
/// ```
/// use crucial::sync::AtomicI64;
/// use crucial::{Result, Shared, cloud, thread};
///
/// #[cloud]
/// fn count(hits: Shared<AtomicI64>) -> Result<i64> {
///     hits.fetch_add(1)
/// }
///
/// let hits = Shared::new(AtomicI64::new(0))?;
/// thread::map(0..4, |_| count(hits.clone()))?;
/// assert_eq!(hits.load()?, 4);
/// # Ok::<(), crucial::Error>(())
/// ```
pub struct Shared<T: SharedType> {
    proxy: T::Proxy,
}

impl<T: SharedType> Shared<T> {
    /// Makes a new, anonymous, ephemeral object with this value.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownType`](crate::Error::UnknownType) if the server was built without `T`;
    /// [`Error::Unavailable`](crate::Error::Unavailable) if there is no server.
    ///
    /// ```
    /// use crucial::{Shared, sync::AtomicI64};
    ///
    /// let (one, other) = (Shared::new(AtomicI64::new(1))?, Shared::new(AtomicI64::new(1))?);
    /// assert_ne!(one, other);
    /// assert_eq!(one, one.clone());
    /// # Ok::<(), crucial::Error>(())
    /// ```
    #[doc(alias = "Arc::new")]
    pub fn new(value: T) -> Result<Shared<T>> {
        open(None, Lifetime::Run, Mode::FindOrCreate, 0, &value.state()?)
    }

    /// The ephemeral object `(T, key)` of this run, made with the value `init` if it does not exist yet.
    /// If it exists, `init` is ignored.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`](crate::Error::Refused) if it exists with other type parameters: a `Map<String, f64>` is not
    /// opened as a `Map<String, i64>`. What counts is how values are encoded: a `struct Id(u64)` is a `u64`, a struct or enum
    /// is its name (`#[serde(rename = "..")]` keeps the old one).
    ///
    /// ```
    /// use crucial::{Shared, sync::AtomicI64};
    ///
    /// let hits = Shared::named("named", AtomicI64::new(1))?;
    /// hits.store(7)?;
    /// // The object is there already.
    /// assert_eq!(Shared::named("named", AtomicI64::new(1))?.load()?, 7);
    /// # Ok::<(), crucial::Error>(())
    /// ```
    pub fn named(key: impl AsRef<str>, init: T) -> Result<Shared<T>> {
        Shared::builder(key).create(init)
    }

    /// The object `(T, key)` of this run, or else the persistent one of that name.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`](crate::Error::NotFound) if there is neither; [`Error::Refused`](crate::Error::Refused) as of
    /// [`named`](Shared::named).
    ///
    /// ```
    /// use crucial::{Error, Shared, sync::AtomicI64};
    ///
    /// let nothing = Shared::<AtomicI64>::open("open");
    /// assert!(matches!(nothing, Err(Error::NotFound { .. })));
    /// Shared::named("open", AtomicI64::new(1))?;
    /// assert_eq!(Shared::<AtomicI64>::open("open")?.load()?, 1);
    /// # Ok::<(), crucial::Error>(())
    /// ```
    pub fn open(key: impl AsRef<str>) -> Result<Shared<T>> {
        match Shared::builder(key.as_ref()).open() {
            Err(crate::Error::NotFound { .. }) => Shared::builder(key).persistent().open(),
            found => found,
        }
    }

    /// Sets more than [`named`](Shared::named) does.
    ///
    /// ```
    /// use crucial::{Shared, sync::AtomicI64};
    ///
    /// let visits = Shared::builder("visits").persistent().replicas(2).create(AtomicI64::new(0))?;
    /// visits.fetch_add(1)?;
    /// assert!(visits.delete()?);
    /// # Ok::<(), crucial::Error>(())
    /// ```
    pub fn builder(key: impl AsRef<str>) -> ObjectBuilder<T> {
        ObjectBuilder {
            key: key.as_ref().into(),
            lifetime: Lifetime::Run,
            replicas: 0,
            recreate: false,
            _type: PhantomData,
        }
    }

    /// The same methods as on the handle, each returning a [`Pending`](crate::Pending) at once. Many
    /// calls in flight share one round trip, and async programs `.await` them.
    ///
    /// Who drops a [`Pending`](crate::Pending) of a call that takes something, and was served meanwhile, has
    /// taken it: an item of a queue is gone, a permit comes back with the end of this process's session.
    ///
    /// ```
    /// use crucial::{Shared, sync::AtomicI64};
    ///
    /// let hits = Shared::new(AtomicI64::new(0))?;
    /// let calls: Vec<_> = (0..100).map(|_| hits.deferred().fetch_add(1)).collect();
    /// let last = calls.into_iter().map(|call| call.wait()).last();
    /// assert_eq!(last.unwrap()?, 99);
    /// # Ok::<(), crucial::Error>(())
    /// ```
    pub fn deferred(&self) -> T::Deferred {
        T::Deferred::new(self.target().clone())
    }

    /// The same object, with calls that wait inside it no longer than `timeout`, and then fail with
    /// [`Error::TimedOut`](crate::Error::TimedOut) and without effect. A method that does not wait is
    /// not affected. With a `timeout` of more than 49 days, as `Duration::MAX`, calls wait for ever.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use crucial::{Error, Shared, collections::Queue};
    ///
    /// let jobs = Shared::new(Queue::<String>::default())?;
    /// let hurried = jobs.with_timeout(Duration::from_millis(10));
    /// assert!(matches!(hurried.pop(), Err(Error::TimedOut { .. })));
    /// # Ok::<(), crucial::Error>(())
    /// ```
    pub fn with_timeout(&self, timeout: Duration) -> Shared<T> {
        Shared {
            proxy: T::Proxy::new(self.target().with_timeout(timeout)),
        }
    }

    /// Removes the object, for everybody; whether there was one. Calls that wait inside it, and later
    /// calls, fail with [`Error::Lost`](crate::Error::Lost).
    ///
    /// ```
    /// use crucial::{Error, Shared, sync::AtomicI64};
    ///
    /// let hits = Shared::new(AtomicI64::new(0))?;
    /// assert!(hits.delete()? && !hits.delete()?);
    /// assert!(matches!(hits.load(), Err(Error::Lost { .. })));
    /// # Ok::<(), crucial::Error>(())
    /// ```
    pub fn delete(&self) -> Result<bool> {
        caller::current()?.delete(self.id())
    }

    /// Accepts the state that a method left behind when it panicked; whether the object was
    /// poisoned. See [`Error::Poisoned`](crate::Error::Poisoned).
    ///
    /// ```
    /// use crucial::{Error, Result, Shared, shared};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Stack(Vec<u64>);
    ///
    /// #[shared]
    /// impl Stack {
    ///     fn pop(&mut self) -> u64 {
    ///         self.0.pop().expect("the stack is empty")
    ///     }
    ///
    ///     fn push(&mut self, value: u64) {
    ///         self.0.push(value);
    ///     }
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     let stack = Shared::new(Stack(Vec::new()))?;
    ///     assert!(matches!(stack.pop(), Err(Error::Panicked { .. })));
    ///     assert!(matches!(stack.push(1), Err(Error::Poisoned { .. })));
    ///     assert!(stack.clear_poison()?);
    ///     stack.push(1)
    /// }
    /// ```
    pub fn clear_poison(&self) -> Result<bool> {
        caller::current()?.clear_poison(self.id())
    }

    /// The object's id, for logs and tools.
    pub fn id(&self) -> ObjectId {
        self.target().id()
    }

    /// Its key, or `None` if it is anonymous.
    pub fn key(&self) -> Option<&str> {
        self.target().key().map(|key| &**key)
    }

    fn target(&self) -> &Target {
        self.proxy.target()
    }
}

/// Creates or finds a named object. See [`Shared::builder`].
///
/// ```
/// use crucial::{Shared, sync::AtomicI64};
///
/// let hits = Shared::builder("hits").replicas(2).create(AtomicI64::new(1))?;
/// let again = Shared::builder("hits").recreate().create(AtomicI64::new(5))?;
/// assert_eq!(again.load()?, 5);
/// assert!(Shared::<AtomicI64>::builder("other").open().is_err());
/// # Ok::<(), crucial::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ObjectBuilder<T> {
    key: Arc<str>,
    lifetime: Lifetime,
    replicas: u8,
    recreate: bool,
    _type: PhantomData<fn() -> T>,
}

impl<T: SharedType> ObjectBuilder<T> {
    /// The object belongs to no run: it lives until it is deleted, and every program that uses the
    /// same namespace (`CRUCIAL_NAMESPACE`) sees it.
    pub fn persistent(mut self) -> Self {
        self.lifetime = Lifetime::Persistent;
        self
    }

    /// Keeps the object on this many servers. One server keeps one copy, whatever is asked for.
    pub fn replicas(mut self, count: u8) -> Self {
        self.replicas = count;
        self
    }

    /// If the object is there, replaces it: old contents and old poison are gone for everybody, and
    /// calls that wait inside it fail with [`Error::Lost`](crate::Error::Lost).
    pub fn recreate(mut self) -> Self {
        self.recreate = true;
        self
    }

    /// Finds the object, or makes it with the value `init`.
    pub fn create(self, init: T) -> Result<Shared<T>> {
        let mode = if self.recreate {
            Mode::Recreate
        } else {
            Mode::FindOrCreate
        };
        let state = init.state()?;
        open(Some(self.key), self.lifetime, mode, self.replicas, &state)
    }

    /// Finds the object.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`](crate::Error::NotFound) if there is no such object.
    pub fn open(self) -> Result<Shared<T>> {
        open(
            Some(self.key),
            self.lifetime,
            Mode::Find,
            self.replicas,
            &[],
        )
    }
}

fn open<T: SharedType>(
    key: Option<Arc<str>>,
    lifetime: Lifetime,
    mode: Mode,
    replicas: u8,
    state: &[u8],
) -> Result<Shared<T>> {
    let opened = caller::current()?.open(&Open {
        type_name: &T::full_name(),
        key: key.as_deref(),
        lifetime,
        mode,
        replicas,
        state,
    })?;
    Ok(Shared {
        proxy: T::Proxy::new(Target::new::<T>(opened.object, key)),
    })
}

impl<T: SharedType> Deref for Shared<T> {
    type Target = T::Proxy;

    fn deref(&self) -> &T::Proxy {
        &self.proxy
    }
}

impl<T: SharedType> Clone for Shared<T> {
    /// A handle to the same object.
    fn clone(&self) -> Self {
        Shared {
            proxy: T::Proxy::new(self.target().clone()),
        }
    }
}

impl<T: SharedType> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl<T: SharedType> Eq for Shared<T> {}

impl<T: SharedType> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id().hash(state);
    }
}

impl<T: SharedType> std::fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shared({})", self.target())
    }
}

/// A handle travels as the object's id and key.
impl<T: SharedType> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.id(), self.key()).serialize(serializer)
    }
}

impl<'de, T: SharedType> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (id, key) = <(ObjectId, Option<Arc<str>>)>::deserialize(deserializer)?;
        Ok(Shared {
            proxy: T::Proxy::new(Target::new::<T>(id, key)),
        })
    }
}
