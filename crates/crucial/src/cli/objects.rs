//! `crucial counter hits add 5`, and the like: each command is a call of a persistent object.

use std::ffi::OsString;
use std::str::FromStr;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use crucial_object::collections::{List, Map, Merge, Mergeable, Queue, Set};
use crucial_object::sync::{AtomicCell, Barrier, Counter, Latch, Mutex, Promise, Semaphore};
use crucial_object::{Error, Logger, Result, Shared, SharedType};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::value::{Answer, duration};
use super::{lines, print, run};

/// Shared objects by name. They outlive the command, until they are deleted.
#[derive(Subcommand)]
pub enum Objects {
    /// A number that goes up and down
    Counter {
        name: String,
        #[command(subcommand)]
        operation: CounterOperation,
    },
    /// One value (text)
    Cell {
        name: String,
        #[command(subcommand)]
        operation: CellOperation,
    },
    /// Values by key
    Map {
        name: String,
        /// What the values are; all commands on one map must agree
        #[arg(long, value_enum, default_value_t = Values::Int)]
        values: Values,
        #[command(subcommand)]
        operation: MapOperation,
    },
    /// Items (text) by position
    List {
        name: String,
        #[command(subcommand)]
        operation: ListOperation,
    },
    /// Items (text), each once
    Set {
        name: String,
        #[command(subcommand)]
        operation: SetOperation,
    },
    /// Items (text), first in, first out
    Queue {
        name: String,
        /// Where it is made: how many items it holds; without it, any number
        #[arg(long)]
        capacity: Option<u64>,
        #[command(subcommand)]
        operation: QueueOperation,
    },
    /// A meeting point
    Barrier {
        name: String,
        #[command(subcommand)]
        operation: BarrierOperation,
    },
    /// A gate that opens when it was counted down
    Latch {
        name: String,
        /// Where it is made: from which number it counts
        #[arg(long)]
        count: Option<u64>,
        #[command(subcommand)]
        operation: LatchOperation,
    },
    /// A value (text) that is set once
    Promise {
        name: String,
        #[command(subcommand)]
        operation: PromiseOperation,
    },
    /// Permits. A permit comes back with the end of the process that holds it, so a command runs under one
    Semaphore {
        name: String,
        /// Where it is made: how many there are
        #[arg(long)]
        permits: Option<u64>,
        #[command(subcommand)]
        operation: SemaphoreOperation,
    },
    /// A lock. It comes back with the end of the process that holds it, so a command runs under it
    Mutex {
        name: String,
        #[command(subcommand)]
        operation: MutexOperation,
    },
    /// Lines that many write
    Log {
        name: String,
        #[command(subcommand)]
        operation: LogOperation,
    },
    /// Removes an object, for everybody
    Delete {
        /// counter, cell, map, list, set, queue, barrier, latch, promise, semaphore, mutex or log
        kind: String,
        name: String,
    },
    /// Removes all objects of the namespace (CRUCIAL_NAMESPACE); how many there were
    Clear,
}

/// What a map's values are.
#[derive(Clone, Copy, ValueEnum)]
pub enum Values {
    Int,
    Float,
    Text,
}

/// How values are merged.
#[derive(Clone, Copy, ValueEnum)]
pub enum How {
    Sum,
    Max,
    Min,
    Append,
}

#[derive(Subcommand)]
pub enum CounterOperation {
    /// Prints the value
    Get,
    /// Adds, and prints the new value
    #[command(allow_negative_numbers = true)]
    Add { number: i64 },
    /// Adds 1, and prints the new value
    Increment,
    /// Subtracts 1, and prints the new value
    Decrement,
    /// Sets it to 0, and prints what it was
    Reset,
}

#[derive(Subcommand)]
pub enum CellOperation {
    /// Prints the value
    Get,
    /// Sets the value
    Set { value: String },
    /// Sets the value, and prints the previous one
    Swap { value: String },
    /// Sets the value if it is OLD
    Cas { old: String, new: String },
}

#[derive(Subcommand)]
pub enum MapOperation {
    /// Sets a value, and prints the previous one
    #[command(allow_negative_numbers = true)]
    Put { key: String, value: String },
    /// Prints a value
    Get { key: String },
    /// Removes a value, and prints it
    Remove { key: String },
    /// Merges a value, or, with -, each line "KEY VALUE" of standard input
    #[command(allow_negative_numbers = true)]
    Merge {
        /// - for standard input
        key: String,
        value: Option<String>,
        #[arg(long, value_enum, default_value_t = How::Sum)]
        how: How,
    },
    /// Prints all keys
    Keys,
    /// Prints all keys and values
    Entries,
    /// Prints the entries with the largest values, largest first
    Top { count: u64 },
    /// Prints how many there are
    Len,
    /// Removes all
    Clear,
}

#[derive(Subcommand)]
pub enum ListOperation {
    /// Appends items, or, with -, each line of standard input
    Push {
        #[arg(required = true)]
        items: Vec<String>,
    },
    /// Removes the last item, and prints it
    Pop,
    /// Prints an item
    Get { index: u64 },
    /// Sets an item, and prints the previous one
    Set { index: u64, item: String },
    /// Removes an item, and prints it
    Remove { index: u64 },
    /// Prints COUNT items from START on
    Range { start: u64, count: u64 },
    /// Prints all items
    All,
    /// Prints how many there are
    Len,
    /// Removes all
    Clear,
}

#[derive(Subcommand)]
pub enum SetOperation {
    /// Adds items, or, with -, each line of standard input, and prints how many are new
    Add {
        #[arg(required = true)]
        items: Vec<String>,
    },
    /// Removes items, or, with -, each line of standard input, and prints how many were there
    Remove {
        #[arg(required = true)]
        items: Vec<String>,
    },
    /// Whether an item is there
    Contains { item: String },
    /// Prints all items
    All,
    /// Prints how many there are
    Len,
    /// Removes all
    Clear,
}

#[derive(Subcommand)]
pub enum QueueOperation {
    /// Appends items, or, with -, each line of standard input; waits while it is full
    Push {
        #[arg(required = true)]
        items: Vec<String>,
        #[arg(long, value_parser = duration)]
        timeout: Option<Duration>,
    },
    /// Takes the oldest item, and prints it; waits while there is none. Status 3 when it is closed and empty
    Pop {
        #[arg(long, value_parser = duration)]
        timeout: Option<Duration>,
    },
    /// Takes the oldest item, if there is one
    TryPop,
    /// Prints how many there are
    Len,
    /// Takes no more items
    Close,
}

#[derive(Subcommand)]
pub enum BarrierOperation {
    /// Waits for the others; prints whether this is the leader
    Wait {
        /// Where it is made: how many meet
        #[arg(long)]
        parties: Option<usize>,
        #[arg(long, value_parser = duration)]
        timeout: Option<Duration>,
    },
    /// Prints how many wait
    Waiting,
    /// Ends the round: those who wait fail
    Reset,
}

#[derive(Subcommand)]
pub enum LatchOperation {
    /// Counts down, and prints what is left
    Down,
    /// Waits until it is 0
    Wait {
        #[arg(long, value_parser = duration)]
        timeout: Option<Duration>,
    },
    /// Prints what is left
    Get,
}

#[derive(Subcommand)]
pub enum PromiseOperation {
    /// Sets the value, if there is none
    Set { value: String },
    /// Prints the value; waits until there is one
    Get {
        #[arg(long, value_parser = duration)]
        timeout: Option<Duration>,
    },
    /// Prints the value, if there is one
    TryGet,
}

#[derive(Subcommand)]
pub enum SemaphoreOperation {
    /// Runs a command while it holds permits; the exit status is the command's
    Run {
        /// How many
        #[arg(long, default_value_t = 1)]
        take: u64,
        #[arg(long, value_parser = duration)]
        timeout: Option<Duration>,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Gives permits (back)
    Release {
        #[arg(default_value_t = 1)]
        permits: u64,
    },
    /// Prints how many permits are there
    Available,
}

#[derive(Subcommand)]
pub enum MutexOperation {
    /// Runs a command while it holds the lock; the exit status is the command's
    Run {
        #[arg(long, value_parser = duration)]
        timeout: Option<Duration>,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Whether somebody holds the lock
    IsLocked,
}

#[derive(Subcommand)]
pub enum LogOperation {
    /// Appends a line of these words, or, with -, each line of standard input
    Write {
        #[arg(required = true)]
        words: Vec<String>,
    },
    /// Prints the lines
    Lines,
    /// Prints lines as they come, until it is interrupted
    Follow,
}

/// The object, which is made with `init` if there is none.
fn object<T: SharedType + Serialize>(name: &str, init: T) -> Result<Shared<T>> {
    Shared::builder(name).persistent().create(init)
}

/// The object; made with `init`, if that is given.
fn object_or<T: SharedType + Serialize>(
    name: &str,
    init: Option<T>,
    option: &str,
) -> Result<Shared<T>> {
    match init {
        Some(init) => object(name, init),
        None => find(name).map_err(|error| match error {
            Error::NotFound { .. } => Error::Config {
                detail: format!("there is no {name:?} yet: {option} says how to make it"),
            },
            error => error,
        }),
    }
}

fn find<T: SharedType>(name: &str) -> Result<Shared<T>> {
    Shared::builder(name).persistent().open()
}

/// With its time-out, if there is one.
fn patient<T: SharedType>(object: Shared<T>, timeout: Option<Duration>) -> Shared<T> {
    match timeout {
        Some(timeout) => object.timeout(timeout),
        None => object,
    }
}

/// An option that says how an object is made must be true of the one that is there.
fn agree(
    name: &str,
    option: &str,
    asked: Option<u64>,
    made_with: impl FnOnce() -> Result<u64>,
) -> Result<()> {
    let Some(asked) = asked else { return Ok(()) };
    let made = match made_with()? {
        made_with if made_with == asked => return Ok(()),
        u64::MAX => format!("without {option}"),
        made_with => format!("with {option} {made_with}"),
    };
    Err(contradiction(
        name,
        option,
        &format!("was made {made}, not {asked}"),
    ))
}

fn contradiction(name: &str, option: &str, truth: &str) -> Error {
    Error::Config {
        detail: format!("{name:?} {truth}: leave {option} out, or `crucial delete` it first"),
    }
}

/// A value, as it is written.
fn parse<V: FromStr>(text: &str) -> Result<V> {
    number(text).map_err(|detail| Error::Config { detail })
}

fn number<V: FromStr>(text: &str) -> Result<V, String> {
    let wrong =
        |_| format!("{text:?} is not a number: --values text (or float) is for other values");
    text.parse().map_err(wrong)
}

/// The entry of a line "KEY VALUE"; none of an empty line.
fn entry<V: FromStr>(line: &str) -> Result<Option<(String, V)>, String> {
    if line.trim().is_empty() {
        return Ok(None);
    }
    let Some((key, value)) = line.trim().rsplit_once(char::is_whitespace) else {
        return Err(format!("{line:?} is no line \"KEY VALUE\""));
    };
    Ok(Some((key.trim_end().to_owned(), number(value)?)))
}

/// Calls `apply` with `words`, or with the lines of standard input if there is just the word `-`.
fn each(
    words: Vec<String>,
    batch_lines: usize,
    mut apply: impl FnMut(Vec<String>) -> Result<()>,
) -> Result<()> {
    if words != ["-"] {
        return apply(words);
    }
    let whole = |line: &str| Ok(Some(line.to_owned()));
    lines::apply(std::io::stdin(), batch_lines, whole, apply)
}

impl Objects {
    /// Makes the call.
    pub fn run(self) -> Result<Answer> {
        match self {
            Objects::Counter { name, operation } => {
                counter(&object(&name, Counter::new(0))?, operation)
            }
            Objects::Cell { name, operation } => cell(&name, operation),
            Objects::Map {
                name,
                values,
                operation,
            } => match values {
                Values::Int => map(&object::<Map<String, i64>>(&name, Map::new())?, operation),
                Values::Float => map(&object::<Map<String, f64>>(&name, Map::new())?, operation),
                Values::Text => map(
                    &object::<Map<String, String>>(&name, Map::new())?,
                    operation,
                ),
            },
            Objects::List { name, operation } => list(&object(&name, List::new())?, operation),
            Objects::Set { name, operation } => set(&object(&name, Set::new())?, operation),
            Objects::Queue {
                name,
                capacity,
                operation,
            } => {
                let made = Queue::new(capacity.unwrap_or(u64::MAX));
                let asked = capacity.map(|_| made.capacity());
                let object = object(&name, made)?;
                agree(&name, "--capacity", asked, || object.capacity())?;
                queue(object, operation)
            }
            Objects::Barrier { name, operation } => barrier(&name, operation),
            Objects::Latch {
                name,
                count,
                operation,
            } => {
                let object = object_or(&name, count.map(Latch::new), "--count")?;
                // It does not know from where it has counted, only how far it still has to.
                let left = count.map_or(Ok(0), |_| object.count())?;
                match count {
                    Some(count) if left > count => {
                        let truth = format!("has {left} left to count down, more than {count}");
                        Err(contradiction(&name, "--count", &truth))
                    }
                    _ => latch(object, operation),
                }
            }
            Objects::Promise { name, operation } => {
                promise(object(&name, Promise::new())?, operation)
            }
            Objects::Semaphore {
                name,
                permits,
                operation,
            } => {
                let made = permits.map(Semaphore::new);
                semaphore(object_or(&name, made, "--permits")?, operation)
            }
            Objects::Mutex { name, operation } => mutex(&object(&name, Mutex::new(()))?, operation),
            Objects::Log { name, operation } => log(&object(&name, Logger::new())?, operation),
            Objects::Delete { kind, name } => delete(&kind, &name),
            Objects::Clear => crate::clear_namespace().map(Answer::of),
        }
    }
}

fn counter(counter: &Shared<Counter>, operation: CounterOperation) -> Result<Answer> {
    let value = match operation {
        CounterOperation::Get => counter.value(),
        CounterOperation::Add { number } => counter.add(number),
        CounterOperation::Increment => counter.increment(),
        CounterOperation::Decrement => counter.decrement(),
        CounterOperation::Reset => counter.reset(),
    };
    value.map(Answer::of)
}

fn cell(name: &str, operation: CellOperation) -> Result<Answer> {
    let set = |value: &str| object(name, AtomicCell::new(value.to_owned()));
    let existing = || find::<AtomicCell<String>>(name);
    match operation {
        CellOperation::Get => match existing() {
            Err(Error::NotFound { .. }) => Ok(Answer::maybe(None::<String>)),
            cell => Ok(Answer::of(cell?.get()?)),
        },
        CellOperation::Set { value } => set(&value)?.set(value).map(|()| Answer::done()),
        CellOperation::Swap { value } => set(&value)?.swap(value).map(Answer::of),
        CellOperation::Cas { old, new } => {
            existing()?.compare_and_set(old, new).map(Answer::whether)
        }
    }
}

fn map<V>(map: &Shared<Map<String, V>>, operation: MapOperation) -> Result<Answer>
where
    V: Mergeable + FromStr + Clone + Into<Value> + Serialize + DeserializeOwned + 'static,
{
    match operation {
        MapOperation::Put { key, value } => {
            let previous = map.insert(key, parse(&value)?)?;
            Ok(previous.map_or_else(Answer::done, Answer::of))
        }
        MapOperation::Get { key } => map.get(&key).map(Answer::maybe),
        MapOperation::Remove { key } => map.remove(&key).map(Answer::maybe),
        MapOperation::Merge { key, value, how } => {
            let how = match how {
                How::Sum => Merge::Sum,
                How::Max => Merge::Max,
                How::Min => Merge::Min,
                How::Append => Merge::Append,
            };
            match value {
                Some(value) => map.merge(key, parse(&value)?, how).map(Answer::of),
                None if key == "-" => {
                    let merge = |entries| map.merge_all(entries, how);
                    lines::apply(std::io::stdin(), lines::BATCH_LINES, entry, merge)?;
                    Ok(Answer::done())
                }
                None => Err(Error::Config {
                    detail: format!("merge {key} with what? Give a value, or - for standard input"),
                }),
            }
        }
        MapOperation::Keys => map.keys().map(Answer::of),
        MapOperation::Entries => map.entries().map(Answer::entries),
        MapOperation::Top { count } => map.top(count).map(Answer::entries),
        MapOperation::Len => map.len().map(Answer::of),
        MapOperation::Clear => map.clear().map(|()| Answer::done()),
    }
}

fn list(list: &Shared<List<String>>, operation: ListOperation) -> Result<Answer> {
    match operation {
        ListOperation::Push { items } => {
            each(items, lines::BATCH_LINES, |items| list.extend(items)).map(|()| Answer::done())
        }
        ListOperation::Pop => list.pop().map(Answer::maybe),
        ListOperation::Get { index } => list.get(index).map(Answer::maybe),
        ListOperation::Set { index, item } => list.set(index, item).map(Answer::of),
        ListOperation::Remove { index } => list.remove(index).map(Answer::of),
        ListOperation::Range { start, count } => list.range(start, count).map(Answer::of),
        ListOperation::All => list.to_vec().map(Answer::of),
        ListOperation::Len => list.len().map(Answer::of),
        ListOperation::Clear => list.clear().map(|()| Answer::done()),
    }
}

fn set(set: &Shared<Set<String>>, operation: SetOperation) -> Result<Answer> {
    let count = |items, call: &dyn Fn(Vec<String>) -> Result<u64>| {
        let mut count = 0;
        each(items, lines::BATCH_LINES, |items| {
            count += call(items)?;
            Ok(())
        })?;
        Ok(Answer::of(count))
    };
    match operation {
        SetOperation::Add { items } => count(items, &|items| set.extend(items)),
        SetOperation::Remove { items } => count(items, &|items| set.remove_all(&items)),
        SetOperation::Contains { item } => set.contains(&item).map(Answer::whether),
        SetOperation::All => set.to_vec().map(Answer::of),
        SetOperation::Len => set.len().map(Answer::of),
        SetOperation::Clear => set.clear().map(|()| Answer::done()),
    }
}

fn queue(queue: Shared<Queue<String>>, operation: QueueOperation) -> Result<Answer> {
    match operation {
        QueueOperation::Push { items, timeout } => {
            let queue = patient(queue, timeout);
            let push = |items: Vec<String>| items.into_iter().try_for_each(|item| queue.push(item));
            // One at a time, so that it is known which was pushed.
            each(items, 1, push).map(|()| Answer::done())
        }
        QueueOperation::Pop { timeout } => patient(queue, timeout).pop().map(Answer::maybe),
        QueueOperation::TryPop => queue.try_pop().map(Answer::maybe),
        QueueOperation::Len => queue.len().map(Answer::of),
        QueueOperation::Close => queue.close().map(|()| Answer::done()),
    }
}

fn barrier(name: &str, operation: BarrierOperation) -> Result<Answer> {
    match operation {
        BarrierOperation::Wait { parties, timeout } => {
            let barrier = object_or(name, parties.map(Barrier::new), "--parties")?;
            let asked = parties.map(|parties| parties as u64);
            agree(name, "--parties", asked, || barrier.parties())?;
            let result = patient(barrier, timeout).wait()?;
            Ok(Answer::of(if result.is_leader() {
                "leader"
            } else {
                "through"
            }))
        }
        BarrierOperation::Waiting => find::<Barrier>(name)?.waiting().map(Answer::of),
        BarrierOperation::Reset => find::<Barrier>(name)?.reset().map(|()| Answer::done()),
    }
}

fn latch(latch: Shared<Latch>, operation: LatchOperation) -> Result<Answer> {
    match operation {
        LatchOperation::Down => latch.count_down().map(Answer::of),
        LatchOperation::Wait { timeout } => patient(latch, timeout).wait().map(|()| Answer::done()),
        LatchOperation::Get => latch.count().map(Answer::of),
    }
}

fn promise(promise: Shared<Promise<String>>, operation: PromiseOperation) -> Result<Answer> {
    match operation {
        PromiseOperation::Set { value } => promise.set(value).map(Answer::whether),
        PromiseOperation::Get { timeout } => patient(promise, timeout).get().map(Answer::of),
        PromiseOperation::TryGet => promise.try_get().map(Answer::maybe),
    }
}

fn semaphore(semaphore: Shared<Semaphore>, operation: SemaphoreOperation) -> Result<Answer> {
    match operation {
        SemaphoreOperation::Run {
            take,
            timeout,
            command,
        } => {
            let permits = patient(semaphore.clone(), timeout).permits(take)?;
            run::program(&command, permits.token(), || permits.release())
        }
        SemaphoreOperation::Release { permits } => {
            semaphore.release_many(permits).map(|()| Answer::done())
        }
        SemaphoreOperation::Available => semaphore.available_permits().map(Answer::of),
    }
}

fn mutex(mutex: &Shared<Mutex<()>>, operation: MutexOperation) -> Result<Answer> {
    match operation {
        MutexOperation::Run { timeout, command } => {
            let guard = patient(mutex.clone(), timeout).lock()?;
            run::program(&command, guard.token(), || guard.unlock())
        }
        MutexOperation::IsLocked => mutex.is_locked().map(Answer::whether),
    }
}

fn log(log: &Shared<Logger>, operation: LogOperation) -> Result<Answer> {
    match operation {
        LogOperation::Write { words } => {
            each(words, 1, |words| log.log(words.join(" "))).map(|()| Answer::done())
        }
        LogOperation::Lines => {
            let lines = log
                .lines()?
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>();
            Ok(Answer::of(lines))
        }
        LogOperation::Follow => {
            let mut next = 0;
            loop {
                let lines = log.read(next)?;
                next = lines.last().map_or(next, |line| line.number + 1);
                if !print::lines(lines)? {
                    return Ok(Answer::done());
                }
            }
        }
    }
}

fn delete(kind: &str, name: &str) -> Result<Answer> {
    fn remove<T: SharedType>(name: &str) -> Result<bool> {
        match find::<T>(name) {
            Err(Error::NotFound { .. }) => Ok(false),
            found => found?.delete(),
        }
    }
    let removed = match kind {
        "counter" => remove::<Counter>(name),
        "cell" => remove::<AtomicCell<String>>(name),
        "map" => remove::<Map<String, i64>>(name),
        "list" => remove::<List<String>>(name),
        "set" => remove::<Set<String>>(name),
        "queue" => remove::<Queue<String>>(name),
        "barrier" => remove::<Barrier>(name),
        "latch" => remove::<Latch>(name),
        "promise" => remove::<Promise<String>>(name),
        "semaphore" => remove::<Semaphore>(name),
        "mutex" => remove::<Mutex<()>>(name),
        "log" => remove::<Logger>(name),
        other => {
            return Err(Error::Config {
                detail: format!("{other:?} is no kind of object: see crucial delete --help"),
            });
        }
    };
    removed.map(Answer::whether)
}
