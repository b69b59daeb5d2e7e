//! The carrier of this process's calls: a client, installed by the runtime. Handles find it here,
//! so that they stay small and can be sent.

use std::cell::RefCell;
use std::sync::{Arc, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::{Error, MethodId, ObjectId, Result};

/// Makes calls. A client implements it over its connections.
pub trait Caller: Send + Sync {
    /// Makes a call and waits for its result.
    fn call(&self, call: &Call<'_>) -> Result<Vec<u8>>;
    /// Sends a call, and returns without its result.
    fn start(&self, call: &Call<'_>) -> Result<Box<dyn InFlight>>;
    /// Creates or finds an object.
    fn open(&self, open: &Open<'_>) -> Result<Opened>;
    /// Removes an object; whether there was one.
    fn delete(&self, object: ObjectId) -> Result<bool>;
    /// Removes an object's poison; whether it had any.
    fn clear_poison(&self, object: ObjectId) -> Result<bool>;
    /// Removes all persistent objects of the caller's namespace; how many.
    fn clear_namespace(&self) -> Result<u64>;
}

/// A call that was sent. Dropping it withdraws the call if it is parked.
pub trait InFlight: Send {
    /// Waits for the result.
    fn wait(&mut self) -> Result<Vec<u8>>;
    /// Takes the result if it is there, and otherwise wakes the task when it is.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Vec<u8>>>;
}

/// A call of a method.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The object.
    pub object: ObjectId,
    /// The method.
    pub method: MethodId,
    /// Their names, for people.
    pub names: CallNames,
    /// For how long it may be parked; `None`: for ever.
    pub timeout: Option<Duration>,
    /// The encoded tuple of arguments.
    pub args: &'a [u8],
}

/// The names by which people know a method and its object's type.
#[derive(Clone, Copy, Debug)]
pub struct CallNames {
    /// The type.
    pub type_name: &'static str,
    /// The method.
    pub method: &'static str,
}

impl std::fmt::Display for CallNames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}::{}", self.type_name, self.method)
    }
}

/// A request to create or find an object.
#[derive(Clone, Copy, Debug)]
pub struct Open<'a> {
    /// Its type: the [full name](crate::SharedType::full_name).
    pub type_name: &'a str,
    /// Its key; `None` makes an anonymous object.
    pub key: Option<&'a str>,
    /// In which namespace, and for how long it lives.
    pub lifetime: Lifetime,
    /// What to do.
    pub mode: Mode,
    /// On how many servers it is kept; 0: the cluster's default.
    pub replicas: u8,
    /// Its encoded initial state; empty in [`Mode::Find`].
    pub state: &'a [u8],
}

/// How long an object lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lifetime {
    /// As long as the application's run.
    Run,
    /// Until it is deleted.
    Persistent,
}

/// What to do with an object that is, or is not, there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Take the object that is there; a missing one is an error.
    Find,
    /// Take the object that is there, or make it.
    FindOrCreate,
    /// Make the object, in place of one that is there.
    Recreate,
}

/// The object that [`Caller::open`] found or made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    /// Its id.
    pub object: ObjectId,
    /// Whether it was made by this request.
    pub created: bool,
}

static CALLER: RwLock<Option<Arc<dyn Caller>>> = RwLock::new(None);

/// The function that [`current`] runs when no caller is installed yet: the runtime registers it at link time.
pub struct Start(pub fn() -> Result<Arc<dyn Caller>>);

#[cfg(not(target_family = "wasm"))]
inventory::collect!(Start);

thread_local! {
    static OVERRIDE: RefCell<Option<Arc<dyn Caller>>> = const { RefCell::new(None) };
    static IN_METHOD: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Makes `caller` the process's caller, or removes it.
pub fn install(caller: Option<Arc<dyn Caller>>) {
    *CALLER.write().unwrap_or_else(|e| e.into_inner()) = caller;
}

/// Runs `f` with `caller` as this thread's caller.
pub fn with<R>(caller: Arc<dyn Caller>, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Arc<dyn Caller>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OVERRIDE.set(self.0.take());
        }
    }
    let _restore = Restore(OVERRIDE.replace(Some(caller)));
    f()
}

thread_local! {
    static THREAD_NAME: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// Runs `f` as the cloud thread `name`.
pub fn as_thread<R>(name: Arc<str>, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Arc<str>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            THREAD_NAME.set(self.0.take());
        }
    }
    let _restore = Restore(THREAD_NAME.replace(Some(name)));
    f()
}

/// The name of this cloud thread, or else of this thread.
pub fn thread_name() -> Arc<str> {
    THREAD_NAME
        .with_borrow(Clone::clone)
        .unwrap_or_else(|| std::thread::current().name().unwrap_or("unnamed").into())
}

/// Runs a method of an object: calls that it makes are refused with [`Error::Nested`].
pub fn in_method<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            IN_METHOD.set(self.0);
        }
    }
    let _restore = Restore(IN_METHOD.replace(true));
    f()
}

/// The caller of this thread.
pub fn current() -> Result<Arc<dyn Caller>> {
    if IN_METHOD.get() {
        return Err(Error::Nested);
    }
    if let Some(caller) = OVERRIDE.with_borrow(Clone::clone) {
        return Ok(caller);
    }
    if let Some(caller) = &*CALLER.read().unwrap_or_else(|e| e.into_inner()) {
        return Ok(caller.clone());
    }
    start()
}

#[cfg(not(target_family = "wasm"))]
fn start() -> Result<Arc<dyn Caller>> {
    match inventory::iter::<Start>.into_iter().next() {
        Some(Start(start)) => start(),
        None => Err(Error::Config {
            detail: "this process has no Crucial runtime: depend on the crate `crucial`".to_owned(),
        }),
    }
}

/// All that runs in a module is methods.
#[cfg(target_family = "wasm")]
fn start() -> Result<Arc<dyn Caller>> {
    Err(Error::Nested)
}
