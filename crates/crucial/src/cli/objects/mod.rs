//! `crucial counter hits add 5`, and the like: each command is a call of a persistent object.

use clap::Subcommand;
use crucial_object::collections::{List, Map, Queue, Set};
use crucial_object::sync::{AtomicCell, Barrier, Counter, Latch, Mutex, Promise, Semaphore};
use crucial_object::{Error, Logger, Result, SharedType};

mod collections;
mod log;
mod open;
mod sync;
mod values;

use super::value::Answer;
use collections::{
    ListOperation, MapOperation, QueueOperation, SetOperation, Values, list, map, queue, set,
};
use log::{LogOperation, log};
use open::{agree, contradiction, find, object, object_or};
use sync::{
    BarrierOperation, LatchOperation, MutexOperation, PromiseOperation, SemaphoreOperation,
    barrier, latch, mutex, promise, semaphore,
};
use values::{CellOperation, CounterOperation, cell, counter};

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
