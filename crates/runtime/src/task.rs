//! Tasks: calls of cloud functions, as data.

use std::collections::{HashMap, HashSet};
use std::marker::PhantomData;
use std::sync::LazyLock;

use crucial_local::Surroundings;
use crucial_object::held::{self, Holds};
use crucial_object::{Error, ObjectId, Result, ThreadId, catch_said, decode};
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
#[derive(Debug)]
pub struct Task<R> {
    pub(crate) call: Result<FunctionCall>,
    /// What keeps the arguments' objects alive.
    pub(crate) holds: Holds,
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
        decode(&self.call?.run()?.result)
    }
}

/// A call of a `#[cloud]` function that borrows some of its arguments by `&mut`. What the function has made of them comes
/// back when its thread has returned.
///
/// Pass the task to `scope` of [`crucial::std::thread`](https://docs.rs/crucial), or run the task on this thread with
/// [`run_here`](MutTask::run_here).
#[must_use = "a task does nothing until it is spawned"]
pub struct MutTask<'a, R> {
    task: Task<R>,
    write: Write<'a>,
}

/// Writes what a function has made of its borrowed arguments to where they come from.
#[doc(hidden)]
pub type Write<'a> = Box<dyn FnOnce(&[u8]) -> Result<()> + Send + 'a>;

impl<'a, R> MutTask<'a, R> {
    /// The expansion of `#[cloud]` calls this function.
    #[doc(hidden)]
    pub fn new(task: Task<R>, write: Write<'a>) -> MutTask<'a, R> {
        MutTask { task, write }
    }
}

impl<R: DeserializeOwned> MutTask<'_, R> {
    /// As [`Task::run_here`], and writes the borrowed arguments back.
    ///
    /// # Errors
    ///
    /// As [`Task::run_here`]; then the borrowed arguments are as they were.
    pub fn run_here(self) -> Result<R> {
        let returned = self.task.call?.run()?;
        let result = decode(&returned.result)?;
        (self.write)(&returned.written)?;
        Ok(result)
    }
}

impl<R> std::fmt::Debug for MutTask<'_, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MutTask")
            .field("task", &self.task.call)
            .finish_non_exhaustive()
    }
}

/// Overwrites a slice with as many items.
#[doc(hidden)]
pub fn overwrite<T>(place: &mut [T], items: Vec<T>) -> Result<()> {
    if items.len() != place.len() {
        return Err(Error::Protocol {
            detail: format!(
                "a slice of {} items came back with {}",
                place.len(),
                items.len()
            ),
        });
    }
    for (place, item) in place.iter_mut().zip(items) {
        *place = item;
    }
    Ok(())
}

/// A call of a `#[cloud]` function: a [`Task`], or a [`MutTask`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a call of a `#[cloud]` function",
    label = "expected a call of a `#[cloud]` function",
    note = "write `#[cloud]` before the function, and let the closure do nothing but call it: `spawn(move || work(x, y))`",
    note = "what the thread does goes into the function; the closure runs at once, in the thread that spawns"
)]
pub trait IsTask {
    /// What the function returns.
    type Output: DeserializeOwned + 'static;

    /// The call, and what is to be written when it has returned.
    #[doc(hidden)]
    fn into_parts<'a>(self) -> (Task<Self::Output>, Option<Write<'a>>)
    where
        Self: 'a;
}

impl<R: DeserializeOwned + 'static> IsTask for Task<R> {
    type Output = R;

    fn into_parts<'a>(self) -> (Task<R>, Option<Write<'a>>)
    where
        Self: 'a,
    {
        (self, None)
    }
}

impl<R: DeserializeOwned + 'static> IsTask for MutTask<'_, R> {
    type Output = R;

    fn into_parts<'a>(self) -> (Task<R>, Option<Write<'a>>)
    where
        Self: 'a,
    {
        (self.task, Some(self.write))
    }
}

/// A [`Task`], or a closure that gives one: `spawn(work(x))`, `spawn(move || work(x))`. The closure is called at once, and
/// only builds the task.
#[diagnostic::on_unimplemented(
    message = "expected a call of a `#[cloud]` function, found `{Self}`",
    label = "neither a call of a `#[cloud]` function nor a closure that does nothing but make one",
    note = "write `#[cloud]` before the function, and let the closure only call it: `spawn(move || work(x, y))`",
    note = "what the thread does goes into the function; a closure runs at once, in the thread that spawns"
)]
pub trait IntoTask {
    /// What the function returns.
    type Output: DeserializeOwned + 'static;

    /// The task.
    #[doc(hidden)]
    fn into_task(self) -> Task<Self::Output>;
}

impl<R: DeserializeOwned + 'static> IntoTask for Task<R> {
    type Output = R;

    fn into_task(self) -> Task<R> {
        self
    }
}

#[diagnostic::do_not_recommend]
impl<F, T> IntoTask for F
where
    F: FnOnce() -> T,
    T: IsTask + 'static,
{
    type Output = T::Output;

    fn into_task(self) -> Task<T::Output> {
        match held::build_task(self).into_parts() {
            (task, None) => task,
            // Nobody would wait for it, and write it.
            (_, Some(_)) => Task::failed(Error::Config {
                detail: "a task that borrows by `&mut` runs in a scope of crucial::std::thread"
                    .to_owned(),
            }),
        }
    }
}

impl<R> Task<R> {
    fn failed(error: Error) -> Task<R> {
        Task {
            call: Err(error),
            holds: Holds::default(),
            _result: PhantomData,
        }
    }
}

impl FunctionCall {
    /// Runs the function in this process.
    pub fn run(&self) -> Result<Returned> {
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

/// Makes a task with the arguments that a closure encodes. The expansion of `#[cloud]` calls this function.
#[doc(hidden)]
pub fn task<R>(
    function: &'static str,
    encode_arguments: impl FnOnce() -> Result<Vec<u8>>,
) -> Task<R> {
    let (arguments, holds) = held::collect(encode_arguments);
    Task {
        call: arguments.map(|arguments| FunctionCall {
            function: function.to_owned(),
            arguments,
        }),
        holds,
        _result: PhantomData,
    }
}

/// The calls of one thread, and what keeps their arguments' objects alive.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub calls: Vec<FunctionCall>,
    pub holds: Holds,
}

impl Batch {
    /// Adds a call to be made after the others.
    pub fn add<R>(&mut self, task: Task<R>) -> Result<()> {
        self.calls.push(task.call?);
        self.holds.extend(task.holds);
        Ok(())
    }
}

/// A cloud function that is linked into this executable.
#[doc(hidden)]
pub struct CloudFunction {
    /// The function's path.
    pub name: &'static str,
    /// Decodes arguments, calls the function, and encodes its result.
    pub run: fn(&[u8]) -> Result<Returned>,
}

inventory::collect!(CloudFunction);

type Run = fn(&[u8]) -> Result<Returned>;

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
    /// No attempt follows if this one fails.
    pub is_last: bool,
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

/// What a cloud function gave back, encoded.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Returned {
    /// Its result.
    #[serde(with = "serde_bytes")]
    pub result: Vec<u8>,
    /// The tuple of what it was lent by `&mut`; empty if that is nothing.
    #[serde(with = "serde_bytes")]
    pub written: Vec<u8>,
}

impl From<Vec<u8>> for Returned {
    fn from(result: Vec<u8>) -> Returned {
        let written = Vec::new();
        Returned { result, written }
    }
}

/// What a payload's calls returned.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    pub of_calls: Vec<Returned>,
    /// The objects of its arguments that the thread has given to others.
    pub passed_on: HashSet<ObjectId>,
}

impl Results {
    /// The result of a thread's only call.
    pub fn only(self) -> Result<Returned> {
        let result = self.of_calls.into_iter().next();
        result.ok_or_else(|| Error::Protocol {
            detail: "the worker returned no result".to_owned(),
        })
    }
}
