//! Tasks: calls of cloud functions, as data.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::LazyLock;

use crucial_local::Surroundings;
use crucial_object::{Error, Result, ThreadId, catch_said, decode};
use crucial_proto::frame::Attempt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::parcel::Parcel;

/// A call of a `#[cloud]` function that has not run yet: the function's name and its encoded arguments.
///
/// Pass the task to [`thread::spawn`](crate::thread::spawn), or run the task on this thread with
/// [`run_here`](Task::run_here).
#[must_use = "a task does nothing until it is spawned"]
#[derive(Clone, Debug)]
pub struct Task<R> {
    pub(crate) call: Result<FunctionCall>,
    _result: PhantomData<fn() -> R>,
}

/// The name of a cloud function and its arguments, as they travel.
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
    /// [`Error::Panicked`] if the function panics; [`Error::Encoding`] if arguments or result cannot be encoded.
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
                    "this executable has no cloud function {}: client and worker must be built from the same program",
                    self.function
                ),
            }
        })?;
        // As that of a thread of std: whoever looks on hears of it at once.
        catch_said(|| function(&self.arguments)).unwrap_or_else(|panic| {
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

/// Makes a task with these encoded arguments. The expansion of `#[cloud]` calls this function.
#[doc(hidden)]
pub fn task<R>(function: &'static str, arguments: Result<Vec<u8>>) -> Task<R> {
    Task {
        call: arguments.map(|arguments| FunctionCall {
            function: function.to_owned(),
            arguments,
        }),
        _result: PhantomData,
    }
}

/// A cloud function that is linked into this executable.
#[doc(hidden)]
pub struct CloudFunction {
    /// The function's path.
    pub name: &'static str,
    /// Decodes arguments, calls the function, and encodes its result.
    pub run: fn(&[u8]) -> Result<Vec<u8>>,
}

inventory::collect!(CloudFunction);

type Run = fn(&[u8]) -> Result<Vec<u8>>;

static FUNCTIONS: LazyLock<HashMap<&'static str, Run>> = LazyLock::new(|| {
    let mut functions: HashMap<&'static str, Run> = HashMap::new();
    for function in inventory::iter::<CloudFunction> {
        let earlier = functions.insert(function.name, function.run);
        // The name is the function's path, so only functions inside other functions can have the same name.
        assert!(
            earlier.is_none(),
            "two cloud functions are named {:?}: rename one, or move one out of the function around it",
            function.name
        );
    }
    functions
});

/// One cloud thread, as a platform runs it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Payload {
    pub name: String,
    pub thread: ThreadId,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    pub exactly_once: bool,
    /// The addresses of the servers that hold the run's shared objects.
    pub servers: String,
    /// The program's settings, with its run.
    pub config: Config,
    /// Where the thread runs, as far as the program says.
    pub surroundings: Surroundings,
    /// The largest result that the platform takes, in bytes.
    pub result_bytes_max: u64,
    /// The calls that the thread makes, one after the other.
    pub calls: Parcel<Vec<FunctionCall>>,
}

impl Payload {
    /// The attempt for which a platform runs this payload.
    pub fn attempt(&self) -> Attempt {
        Attempt {
            thread: self.thread,
            number: self.attempt,
            exactly_once: self.exactly_once,
        }
    }
}

/// The encoded result of each call of a payload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Results(pub Vec<serde_bytes::ByteBuf>);
