//! `crucial counter` and `crucial cell`: one value.

use clap::Subcommand;
use crucial_object::sync::{AtomicCell, Counter};
use crucial_object::{Error, Result, Shared};

use super::open::{find, object};
use crate::value::{Answer, within};

#[derive(Subcommand)]
pub enum CounterOperation {
    /// Prints the value
    Get,
    /// Adds, and prints the new value. A sum beyond the numbers of 64 bits is an error, and changes nothing
    Add {
        #[arg(value_parser = within(i64::MIN..=i64::MAX))]
        number: i64,
    },
    /// Adds 1, and prints the new value
    Increment,
    /// Subtracts 1, and prints the new value
    Decrement,
    /// Sets the value to 0, and prints the previous one
    Reset,
}

#[derive(Subcommand)]
pub enum CellOperation {
    /// Prints the value
    Get,
    /// Sets the value
    Set {
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Sets the value, and prints the previous one
    Swap {
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Sets the value to NEW if it is OLD
    Cas {
        #[arg(allow_hyphen_values = true)]
        old: String,
        #[arg(allow_hyphen_values = true)]
        new: String,
    },
}

pub(super) fn counter(counter: &Shared<Counter>, operation: CounterOperation) -> Result<Answer> {
    let value = match operation {
        CounterOperation::Get => counter.get(),
        CounterOperation::Add { number } => counter.add(number),
        CounterOperation::Increment => counter.increment(),
        CounterOperation::Decrement => counter.decrement(),
        CounterOperation::Reset => counter.reset(),
    };
    value.map(Answer::of)
}

pub(super) fn cell(name: &str, operation: CellOperation) -> Result<Answer> {
    let set = |value: &str| object(name, AtomicCell::new(value.to_owned()));
    let existing = || find::<AtomicCell<String>>(name);
    match operation {
        CellOperation::Get => match existing() {
            Err(Error::NotFound { .. }) => Ok(Answer::maybe(None::<String>)),
            cell => Ok(Answer::of(cell?.get()?)),
        },
        CellOperation::Set { value } => set(&value)?.set(value).map(|()| Answer::done()),
        CellOperation::Swap { value } => set(&value)?.swap(value).map(Answer::of),
        CellOperation::Cas { old, new } => match existing() {
            Err(Error::NotFound { .. }) => Ok(Answer::whether(false)),
            cell => cell?.compare_and_set(old, new).map(Answer::whether),
        },
    }
}
