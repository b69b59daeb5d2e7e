//! `crucial map`, `list`, `set` and `queue`.

use std::cmp::Ordering;
use std::str::FromStr;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use crucial_object::collections::{List, Map, Merge, Mergeable, QUEUE_CLOSED, Queue, Set};
use crucial_object::{Element, Error, Opaque, Result, Shared};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::open::{find, object, patient, whatever};
use crate::lines::{self, each};
use crate::print;
use crate::value::{Answer, duration, quoted, within};

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
    Put {
        key: String,
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Prints a value
    Get { key: String },
    /// Removes a value, and prints it
    Remove { key: String },
    /// Merges a value, or, with -, each line "KEY VALUE" of standard input: two words, or
    /// with a tab between them
    Merge {
        /// - for standard input
        key: String,
        #[arg(allow_hyphen_values = true)]
        value: Option<String>,
        #[arg(long, value_enum, default_value_t = How::Sum)]
        how: How,
    },
    /// Prints all keys
    Keys,
    /// Prints all keys and values
    Entries,
    /// Prints the entries with the largest values, largest first
    Top {
        #[arg(value_parser = within(0..=u64::MAX))]
        count: u64,
    },
    /// Prints the number of entries
    Len,
    /// Removes all entries
    Clear,
}

#[derive(Subcommand)]
pub enum ListOperation {
    /// Appends items, or, with -, each line of standard input
    Push {
        #[arg(required = true, allow_hyphen_values = true)]
        items: Vec<String>,
    },
    /// Removes the last item, and prints it
    Pop,
    /// Prints an item
    Get {
        #[arg(value_parser = within(0..=u64::MAX))]
        index: u64,
    },
    /// Sets an item, and prints the previous one
    Set {
        #[arg(value_parser = within(0..=u64::MAX))]
        index: u64,
        #[arg(allow_hyphen_values = true)]
        item: String,
    },
    /// Removes an item, and prints it
    Remove {
        #[arg(value_parser = within(0..=u64::MAX))]
        index: u64,
    },
    /// Prints COUNT items from START on
    Range {
        #[arg(value_parser = within(0..=u64::MAX))]
        start: u64,
        #[arg(value_parser = within(0..=u64::MAX))]
        count: u64,
    },
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
        #[arg(required = true, allow_hyphen_values = true)]
        items: Vec<String>,
    },
    /// Removes items, or, with -, each line of standard input, and prints how many of them existed
    Remove {
        #[arg(required = true, allow_hyphen_values = true)]
        items: Vec<String>,
    },
    /// Whether the set has an item
    Contains {
        #[arg(allow_hyphen_values = true)]
        item: String,
    },
    /// Prints all items
    All,
    /// Prints the number of items
    Len,
    /// Removes all items
    Clear,
}

#[derive(Subcommand)]
pub enum QueueOperation {
    /// Appends items, or, with -, each line of standard input; waits while the queue is full. Items that begin with a
    /// hyphen come behind --
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

pub(super) fn map<V>(name: &str, operation: MapOperation) -> Result<Answer>
where
    V: Mergeable + FromStr + Clone + Shown + Serialize + DeserializeOwned + 'static,
{
    let new = Map::<String, V>::new;
    let map = || object(name, new());
    // Maps of other values have keys and a length, too.
    let any = || whatever::<Map<String, Opaque>, _>(name, new());
    match operation {
        MapOperation::Put { key, value } => {
            let previous = map()?.insert(key, parse(&value)?)?;
            Ok(previous.map_or_else(Answer::done, |previous| Answer::of(previous.shown())))
        }
        MapOperation::Get { key } => Ok(Answer::maybe(map()?.get(&key)?.map(V::shown))),
        MapOperation::Remove { key } => Ok(Answer::maybe(map()?.remove(&key)?.map(V::shown))),
        MapOperation::Merge { key, value, how } => {
            let how = match how {
                How::Sum => Merge::Sum,
                How::Max => Merge::Max,
                How::Min => Merge::Min,
                How::Append => Merge::Append,
            };
            let map = map()?;
            match value {
                Some(value) => Ok(Answer::of(map.merge(key, parse(&value)?, how)?.shown())),
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
        MapOperation::Keys => {
            let keys = entries(&any()?)?.into_iter().map(|(key, _)| key);
            Ok(Answer::of(keys.collect::<Vec<_>>()))
        }
        MapOperation::Entries => Ok(Answer::entries(shown(entries(&map()?)?))),
        MapOperation::Top { count } => Ok(Answer::entries(shown(top(&map()?, count)?))),
        MapOperation::Len => any()?.len().map(Answer::of),
        MapOperation::Clear => any()?.clear().map(|()| Answer::done()),
    }
}

pub(super) fn list(name: &str, operation: ListOperation) -> Result<Answer> {
    let new = List::<String>::new;
    let list = || object(name, new());
    let any = || whatever::<List<Opaque>, _>(name, new());
    match operation {
        ListOperation::Push { items } => {
            let list = list()?;
            each(items, lines::BATCH_LINES, |items| list.extend(items)).map(|()| Answer::done())
        }
        ListOperation::Pop => list()?.pop().map(Answer::maybe),
        ListOperation::Get { index } => list()?.get(index).map(Answer::maybe),
        ListOperation::Set { index, item } => list()?.set(index, item).map(Answer::of),
        ListOperation::Remove { index } => list()?.remove(index).map(Answer::of),
        ListOperation::Range { start, count } => {
            let list = list()?;
            let page = |_: Option<&String>, position: u64, most: u64| {
                let start = start.saturating_add(position);
                list.range(start, most.min(count.saturating_sub(position)))
            };
            in_pages(page).map(Answer::of)
        }
        ListOperation::All => {
            let list = list()?;
            let page = |_: Option<&String>, start, count| list.range(start, count);
            in_pages(page).map(Answer::of)
        }
        ListOperation::Len => any()?.len().map(Answer::of),
        ListOperation::Clear => any()?.clear().map(|()| Answer::done()),
    }
}

pub(super) fn set(name: &str, operation: SetOperation) -> Result<Answer> {
    let new = Set::<String>::new;
    let set = || object(name, new());
    let any = || whatever::<Set<Opaque>, _>(name, new());
    let count = |items, call: &dyn Fn(Vec<String>) -> Result<u64>| {
        let mut count = 0;
        each(items, lines::BATCH_LINES, |items| {
            count += call(items)?;
            Ok(())
        })?;
        Ok(Answer::of(count))
    };
    match operation {
        SetOperation::Add { items } => {
            let set = set()?;
            count(items, &|items| set.extend(items))
        }
        SetOperation::Remove { items } => {
            let set = set()?;
            count(items, &|items| set.remove_all(&items))
        }
        SetOperation::Contains { item } => set()?.contains(&item).map(Answer::whether),
        SetOperation::All => {
            let set = set()?;
            let page = |last: Option<&String>, _, count| set.page(last.cloned(), count);
            in_pages(page).map(Answer::of)
        }
        SetOperation::Len => any()?.len().map(Answer::of),
        SetOperation::Clear => any()?.clear().map(|()| Answer::done()),
    }
}

pub(super) fn queue(
    name: &str,
    any: &Shared<Queue<Opaque>>,
    operation: QueueOperation,
) -> Result<Answer> {
    let queue = || find::<Queue<String>>(name);
    match operation {
        QueueOperation::Push { items, timeout } => {
            let queue = patient(queue()?, timeout);
            let push = |items: Vec<String>| items.into_iter().try_for_each(|item| queue.push(item));
            // One at a time, so that after an error it is clear which items were pushed.
            match each(items, 1, push) {
                Err(error) if error.to_string().contains(QUEUE_CLOSED) => {
                    print::error(error);
                    Ok(Answer::maybe(None::<String>))
                }
                pushed => pushed.map(|()| Answer::done()),
            }
        }
        QueueOperation::Pop { timeout } => patient(queue()?, timeout).pop().map(Answer::maybe),
        QueueOperation::TryPop => queue()?.try_pop().map(Answer::maybe),
        QueueOperation::Len => any.len().map(Answer::of),
        QueueOperation::Close => any.close().map(|()| Answer::done()),
    }
}

/// Parses a value of a command line.
fn parse<V: FromStr + Shown>(text: &str) -> Result<V> {
    number(text).map_err(|detail| Error::Config { detail })
}

fn number<V: FromStr + Shown>(text: &str) -> Result<V, String> {
    let value: V = text
        .parse()
        .map_err(|_| format!("{} is not {}", quoted(text), V::EXPECTED))?;
    match value.is_as_written(text) {
        true => Ok(value),
        false => Err(format!("{} is beyond the numbers of 64 bits", quoted(text))),
    }
}

/// Parses a line "KEY VALUE": two words, or what is before and behind a tab, where there may be blanks. An empty line has no
/// entry.
fn entry<V: FromStr + Shown>(line: &str) -> Result<Option<(String, V)>, String> {
    if line.trim().is_empty() {
        return Ok(None);
    }
    let (key, value) = match line.split_once('\t') {
        Some((key, value)) => (key.trim(), value.trim()),
        None => {
            let mut words = line.split_whitespace();
            match (words.next(), words.next(), words.next()) {
                (Some(key), Some(value), None) => (key, value),
                _ => {
                    return Err(format!(
                        "{} is not a line \"KEY VALUE\" of two words: with blanks in them, put a tab between the two",
                        quoted(line)
                    ));
                }
            }
        }
    };
    Ok(Some((key.to_owned(), number(value)?)))
}

/// A value of a map, as it is printed.
pub(super) trait Shown {
    /// What a text must be to be one, and what to do with others.
    const EXPECTED: &'static str;

    fn shown(self) -> Value;

    /// The order of values, as servers have it.
    fn rank(&self, other: &Self) -> Ordering;

    /// Whether it is what the text says.
    fn is_as_written(&self, _: &str) -> bool {
        true
    }
}

impl Shown for i64 {
    const EXPECTED: &'static str =
        "a whole number of 64 bits: say --values float or --values text of a map of other values";

    fn shown(self) -> Value {
        self.into()
    }

    fn rank(&self, other: &Self) -> Ordering {
        self.cmp(other)
    }
}

impl Shown for String {
    const EXPECTED: &'static str = "a text";

    fn shown(self) -> Value {
        self.into()
    }

    fn rank(&self, other: &Self) -> Ordering {
        self.cmp(other)
    }
}

impl Shown for f64 {
    const EXPECTED: &'static str = "a number: say --values text of a map of other values";

    /// JSON has no infinite number and none that is not one: these are texts, as `--values float` reads them.
    fn shown(self) -> Value {
        match self.is_finite() {
            true => self.into(),
            false => self.to_string().into(),
        }
    }

    /// A NaN is below all numbers.
    fn rank(&self, other: &Self) -> Ordering {
        match (self.is_nan(), other.is_nan()) {
            (false, false) => self.total_cmp(other),
            (one, other) => other.cmp(&one),
        }
    }

    /// A number that is too large is read as infinite.
    fn is_as_written(&self, text: &str) -> bool {
        self.is_finite() || !text.contains(|sign: char| sign.is_ascii_digit())
    }
}

fn shown<V: Shown>(entries: Vec<(String, V)>) -> Vec<(String, Value)> {
    let entries = entries.into_iter();
    entries.map(|(key, value)| (key, value.shown())).collect()
}

fn entries<V: Element + 'static>(map: &Shared<Map<String, V>>) -> Result<Vec<(String, V)>> {
    in_pages(|last: Option<&(String, V)>, _, count| {
        map.page(last.map(|(key, _)| key.clone()), count)
    })
}

/// The entries with the largest values, as the server finds them; by this command if they do not fit into its reply.
fn top<V>(map: &Shared<Map<String, V>>, count: u64) -> Result<Vec<(String, V)>>
where
    V: Mergeable + Shown + Clone + 'static,
{
    match map.top(count) {
        Err(error) if is_too_large(&error) => {
            let mut all = entries(map)?;
            // Stable: of equal values the first comes first.
            all.sort_by(|(_, one), (_, other)| other.rank(one));
            all.truncate(usize::try_from(count).unwrap_or(usize::MAX));
            Ok(all)
        }
        found => found,
    }
}

/// Whether a reply was larger than replies may be.
fn is_too_large(error: &Error) -> bool {
    matches!(error, Error::LimitExceeded { limit, .. } if limit == "frame_bytes_max")
}

/// The number of items in a page.
const PAGE: u64 = 10_000;

/// All items, as `page` gives them behind the last one and from a position on. A page that is too large for a reply is asked for
/// again in parts.
pub(super) fn in_pages<T>(page: impl Fn(Option<&T>, u64, u64) -> Result<Vec<T>>) -> Result<Vec<T>> {
    let mut all = Vec::new();
    let mut count = PAGE;
    loop {
        match page(all.last(), all.len() as u64, count) {
            Ok(items) if items.is_empty() => return Ok(all),
            Ok(items) => all.extend(items),
            Err(error) if is_too_large(&error) && count > 1 => {
                count = (count / 8).max(1);
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_an_entry_has_two_words() {
        assert_eq!(entry::<i64>(" a  5 "), Ok(Some(("a".to_owned(), 5))));
        assert_eq!(
            entry::<i64>("new york\t5"),
            Ok(Some(("new york".to_owned(), 5)))
        );
        assert_eq!(entry::<i64>("  "), Ok(None));
        assert_eq!(
            entry::<String>("alice hello"),
            Ok(Some(("alice".to_owned(), "hello".to_owned())))
        );
        for line in ["alice", "alice hello world", "new york 5", "alice hello"] {
            let error = entry::<i64>(line).unwrap_err();
            assert!(
                error.contains(if line == "alice hello" { "hello" } else { line }),
                "{error}"
            );
        }
    }

    #[test]
    fn pages_that_are_too_large_are_asked_for_in_parts() {
        let page = |_: Option<&u64>, start: u64, count: u64| {
            if count > 3 {
                return Err(Error::LimitExceeded {
                    limit: "frame_bytes_max".to_owned(),
                    max: 3,
                    detail: String::new(),
                });
            }
            Ok((start..10.min(start + count)).collect())
        };
        assert_eq!(in_pages(page), Ok((0..10).collect()));
    }
}
