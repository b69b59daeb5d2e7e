//! Commands like `crucial counter hits add 5`: each is a call of a persistent object.

use clap::Subcommand;
use crucial_object::collections::{List, Map, Queue, Set};
use crucial_object::sync::{AtomicCell, Barrier, Counter, Latch, Mutex, Promise, Semaphore};
use crucial_object::{Error, Logger, Opaque, Result, SharedType};
use crucial_runtime::runtime;

mod collections;
mod log;
mod open;
mod sync;
mod values;

use super::value::{Answer, within};
use collections::{
    ListOperation, MapOperation, QueueOperation, SetOperation, Values, list, map, queue, set,
};
use log::{LogOperation, log};
use open::{agree, contradiction, find, object, object_or, whatever};
use sync::{
    BarrierOperation, LatchOperation, MutexOperation, PromiseOperation, SemaphoreOperation,
    barrier, latch, mutex, promise, semaphore,
};
use values::{CellOperation, CounterOperation, cell, counter};

/// Shared objects by name. They exist until they are deleted.
#[derive(Subcommand)]
pub enum Objects {
    /// A number to add to and subtract from
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
        /// The type of the values; the same in all commands on one map
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
        /// The largest number of items, when the queue is created; unlimited by default
        #[arg(long, value_parser = within(1..=u64::MAX))]
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
    /// A gate that opens when its count reaches 0
    Latch {
        name: String,
        /// The first count, when the latch is created
        #[arg(long, value_parser = within(0..=u64::MAX))]
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
    /// Permits. A permit is released when the process that holds it ends, so a command runs while holding permits
    Semaphore {
        name: String,
        /// The number of permits, when the semaphore is created
        #[arg(long, value_parser = within(0..=u64::MAX))]
        permits: Option<u64>,
        #[command(subcommand)]
        operation: SemaphoreOperation,
    },
    /// A lock. It is released when the process that holds it ends, so a command runs while holding the lock
    Mutex {
        name: String,
        #[command(subcommand)]
        operation: MutexOperation,
    },
    /// Lines of many writers
    Log {
        name: String,
        #[command(subcommand)]
        operation: LogOperation,
    },
    /// Deletes an object
    Delete {
        /// counter, cell, map, list, set, queue, barrier, latch, promise, semaphore, mutex or log
        kind: String,
        name: String,
    },
    /// Deletes all objects of the namespace (CRUCIAL_NAMESPACE), and prints how many there were
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
                Values::Int => map::<i64>(&name, operation),
                Values::Float => map::<f64>(&name, operation),
                Values::Text => map::<String>(&name, operation),
            },
            Objects::List { name, operation } => list(&name, operation),
            Objects::Set { name, operation } => set(&name, operation),
            Objects::Queue {
                name,
                capacity,
                operation,
            } => {
                let made = Queue::new(capacity.unwrap_or(u64::MAX));
                let requested = capacity.map(|_| made.capacity());
                let any = whatever::<Queue<Opaque>, Queue<String>>(&name, made)?;
                agree(&name, "--capacity", requested, || any.capacity())?;
                queue(&name, &any, operation)
            }
            Objects::Barrier { name, operation } => barrier(&name, operation),
            Objects::Latch {
                name,
                count,
                operation,
            } => {
                let object = object_or(&name, count.map(Latch::new), "--count")?;
                // The latch does not know its first count, only the present one.
                let left = count.map_or(Ok(0), |_| object.get())?;
                match count {
                    Some(count) if left > count => {
                        let truth = format!("has the count {left}, more than {count}");
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
            Objects::Mutex { name, operation } => mutex(&name, operation),
            Objects::Log { name, operation } => log(&object(&name, Logger::new())?, operation),
            Objects::Delete { kind, name } => delete(&kind, &name),
            Objects::Clear => runtime::clear_namespace().map(Answer::of),
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
        "cell" => remove::<AtomicCell<Opaque>>(name),
        "map" => remove::<Map<Opaque, Opaque>>(name),
        "list" => remove::<List<Opaque>>(name),
        "set" => remove::<Set<Opaque>>(name),
        "queue" => remove::<Queue<Opaque>>(name),
        "barrier" => remove::<Barrier>(name),
        "latch" => remove::<Latch>(name),
        "promise" => remove::<Promise<Opaque>>(name),
        "semaphore" => remove::<Semaphore>(name),
        "mutex" => remove::<Mutex<Opaque>>(name),
        "log" => remove::<Logger>(name),
        other => {
            return Err(Error::Config {
                detail: format!("{other:?} is not a kind of object: see crucial delete --help"),
            });
        }
    };
    removed.map(Answer::whether)
}
