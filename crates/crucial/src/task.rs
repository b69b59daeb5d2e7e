//! Tasks: calls of cloud functions, as data.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::LazyLock;

use crucial_core::frame::Attempt;
use crucial_object::{Error, Result, RunId, ThreadId, catch, decode, encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A call of a [`#[cloud]`](crate::cloud) function that has not run yet: the function's name and its
/// encoded arguments.
///
/// Give it to [`thread::spawn`](crate::thread::spawn), or run it on this thread with
/// [`run_here`](Task::run_here).
#[must_use = "a task does nothing until it is spawned"]
#[derive(Clone, Debug)]
pub struct Task<R> {
    pub(crate) call: Result<FunctionCall>,
    _result: PhantomData<fn() -> R>,
}

/// A cloud function and its arguments, as they travel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FunctionCall {
    pub function: String,
    #[serde(with = "serde_bytes")]
    pub arguments: Vec<u8>,
}

impl<R: DeserializeOwned> Task<R> {
    /// Runs the function on this thread, in this process, through the same serialization as on a
    /// platform. Blocks until it returns.
    ///
    /// # Errors
    ///
    /// [`Error::Panicked`] if it panics; [`Error::Encoding`] if arguments or result can not be encoded.
    pub fn run_here(self) -> Result<R> {
        decode(&self.call?.run()?)
    }
}

impl FunctionCall {
    /// Runs the function in this process.
    pub fn run(&self) -> Result<Vec<u8>> {
        let function = FUNCTIONS.get(self.function.as_str()).ok_or_else(|| {
            Error::Config {
                detail: format!(
                    "this executable has no cloud function {}: client and worker must be the same program",
                    self.function
                ),
            }
        })?;
        catch(|| function(&self.arguments)).unwrap_or_else(|panic| {
            Err(Error::Panicked {
                what: self.function.clone(),
                message: panic.message,
                location: panic.location,
            })
        })
    }

    /// The function's own name, without its path.
    pub fn short_name(&self) -> &str {
        self.function.rsplit("::").next().unwrap_or(&self.function)
    }
}

/// Makes a task. The expansion of `#[cloud]` calls it.
#[doc(hidden)]
pub fn task<A: Serialize, R>(function: &'static str, arguments: &A) -> Task<R> {
    Task {
        call: encode(arguments).map(|arguments| FunctionCall {
            function: function.to_owned(),
            arguments,
        }),
        _result: PhantomData,
    }
}

/// A cloud function that is linked into this executable.
#[doc(hidden)]
pub struct CloudFunction {
    pub name: &'static str,
    pub run: fn(&[u8]) -> Result<Vec<u8>>,
}

inventory::collect!(CloudFunction);

type Run = fn(&[u8]) -> Result<Vec<u8>>;

static FUNCTIONS: LazyLock<HashMap<&'static str, Run>> = LazyLock::new(|| {
    let mut functions: HashMap<&'static str, Run> = HashMap::new();
    for function in inventory::iter::<CloudFunction> {
        let earlier = functions.insert(function.name, function.run);
        // The name is the function's path, so only functions inside of functions can meet here.
        assert!(
            earlier.is_none(),
            "two cloud functions are named {:?}: rename one, or move it out of the function around it",
            function.name
        );
    }
    functions
});

/// What a platform runs: one cloud thread.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Payload {
    /// The thread's name.
    pub name: String,
    pub thread: ThreadId,
    /// Counted from 1.
    pub attempt: u32,
    pub exactly_once: bool,
    /// Where its shared objects are.
    pub servers: String,
    pub run: RunId,
    pub namespace: String,
    /// On how many servers its objects are kept that do not say.
    pub replicas: u8,
    /// What it calls, one after the other.
    pub calls: Vec<FunctionCall>,
}

impl Payload {
    /// The attempt that it is.
    pub fn attempt(&self) -> Attempt {
        Attempt {
            thread: self.thread,
            number: self.attempt,
            exactly_once: self.exactly_once,
        }
    }
}

/// What comes back: the encoded result of each call.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results(pub Vec<serde_bytes::ByteBuf>);
