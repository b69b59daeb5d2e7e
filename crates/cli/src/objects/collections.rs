//! `crucial map`, `list`, `set` and `queue`.

use std::str::FromStr;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use crucial_object::collections::{List, Map, Merge, Mergeable, Queue, Set};
use crucial_object::{Error, Result, Shared};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::open::patient;
use crate::lines::{self, each};
use crate::value::{Answer, duration};

/// The type of a map's values.
#[derive(Clone, Copy, ValueEnum)]
pub enum Values {
    Int,
    Float,
    Text,
}

/// How two values are merged.
#[derive(Clone, Copy, ValueEnum)]
pub enum How {
    Sum,
    Max,
    Min,
    Append,
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
    /// Prints the number of entries
    Len,
    /// Removes all entries
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
    /// Prints the number of items
    Len,
    /// Removes all items
    Clear,
}

#[derive(Subcommand)]
pub enum SetOperation {
    /// Adds items, or, with -, each line of standard input, and prints how many are new
    Add {
        #[arg(required = true)]
        items: Vec<String>,
    },
    /// Removes items, or, with -, each line of standard input, and prints how many of them existed
    Remove {
        #[arg(required = true)]
        items: Vec<String>,
    },
    /// Whether the set has an item
    Contains { item: String },
    /// Prints all items
    All,
    /// Prints the number of items
    Len,
    /// Removes all items
    Clear,
}

#[derive(Subcommand)]
pub enum QueueOperation {
    /// Appends items, or, with -, each line of standard input; waits while the queue is full
    Push {
        #[arg(required = true)]
        items: Vec<String>,
        #[arg(long, value_parser = duration)]
        timeout: Option<Duration>,
    },
    /// Removes the oldest item, and prints it; waits while the queue is empty. Status 3 when it is closed and empty
    Pop {
        #[arg(long, value_parser = duration)]
        timeout: Option<Duration>,
    },
    /// Removes the oldest item, and prints it, if there is one
    TryPop,
    /// Prints the number of items
    Len,
    /// Closes the queue: it accepts no more items
    Close,
}

pub(super) fn map<V>(map: &Shared<Map<String, V>>, operation: MapOperation) -> Result<Answer>
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
                    detail: format!(
                        "a value is needed to merge into {key}, or - for standard input"
                    ),
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

pub(super) fn list(list: &Shared<List<String>>, operation: ListOperation) -> Result<Answer> {
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

pub(super) fn set(set: &Shared<Set<String>>, operation: SetOperation) -> Result<Answer> {
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

pub(super) fn queue(queue: Shared<Queue<String>>, operation: QueueOperation) -> Result<Answer> {
    match operation {
        QueueOperation::Push { items, timeout } => {
            let queue = patient(queue, timeout);
            let push = |items: Vec<String>| items.into_iter().try_for_each(|item| queue.push(item));
            // One at a time, so that after an error it is clear which items were pushed.
            each(items, 1, push).map(|()| Answer::done())
        }
        QueueOperation::Pop { timeout } => patient(queue, timeout).pop().map(Answer::maybe),
        QueueOperation::TryPop => queue.try_pop().map(Answer::maybe),
        QueueOperation::Len => queue.len().map(Answer::of),
        QueueOperation::Close => queue.close().map(|()| Answer::done()),
    }
}

/// Parses a value of a command line.
fn parse<V: FromStr>(text: &str) -> Result<V> {
    number(text).map_err(|detail| Error::Config { detail })
}

fn number<V: FromStr>(text: &str) -> Result<V, String> {
    let wrong =
        |_| format!("{text:?} is not a number: --values text (or float) is for other values");
    text.parse().map_err(wrong)
}

/// Parses a line "KEY VALUE"; an empty line has no entry.
fn entry<V: FromStr>(line: &str) -> Result<Option<(String, V)>, String> {
    if line.trim().is_empty() {
        return Ok(None);
    }
    let Some((key, value)) = line.trim().rsplit_once(char::is_whitespace) else {
        return Err(format!("{line:?} is not a line \"KEY VALUE\""));
    };
    Ok(Some((key.trim_end().to_owned(), number(value)?)))
}
